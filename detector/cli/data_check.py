"""Print the issues of a dataset, suspicious boxes and scenes, counts, recall of proposals, and a forecast."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence

from detector.cli.console import printable, progress
from detector.cli.data_options import format_source
from detector.config.detector import Config, load_config
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.inspection import count_classes, shared_scenes, similar_class_names, suspicious_boxes
from detector.datasets.issues import MAX_LINES, REMEDIES, Issue, IssueKind, count_issues
from detector.datasets.loading import load_splits, training_split
from detector.datasets.scenes import scenes
from detector.runs.training_data import decodable, describe

_MEASURED = 3  # images of a forecast


def check(options: Namespace) -> int:
    """Print issues, suspicious boxes, scenes, counts, and what a training would do and take."""
    config = load_config(options.config or "default")
    issues: list[Issue] = []
    suspicious: list[Issue] = []
    datasets = load_splits(
        format_source(options),
        report=issues.append,
        inspect=lambda objects, header: suspicious.extend(suspicious_boxes(objects, header)),
    )
    splits: dict[str, list[Annotation]] = {}
    for split, dataset in datasets.items():
        splits[split or "all"], unreadable = decodable(dataset, progress)
        issues += unreadable
    issues += _without_objects([*datasets.values()], str(options.data))
    suspicious += similar_class_names(next(iter(datasets.values())).class_names, str(options.data))
    images = [each for own in splits.values() for each in own]
    groups = scenes(images).tolist()
    suspicious += shared_scenes(splits, groups)
    _print_issues("issues", issues, options.all)
    _print_issues("suspicious", suspicious, options.all)
    print(f"\n{len(images)} images are {len(set(groups))} scenes")
    for split, dataset in datasets.items():
        print(f"\n{split or 'all'}: {describe([dataset])}")
        _print_counts(dataset)
    first = training_split(datasets)
    if options.forecast and first is not None and any(len(each.labels) for each in splits[first or "all"]):
        _print_forecast(config, splits[first or "all"])
    if options.strict and issues:
        raise ValueError(f"{options.data}: found {count_issues(issues)}; --strict allows no issues")
    if not any(len(each.labels) for dataset in datasets.values() for each in dataset):
        raise ValueError(f"{options.data}: no object is left in {sum(map(len, datasets.values()))} images")
    print(f"\n{describe([*datasets.values()])}")
    return 0


def _without_objects(datasets: Sequence[Dataset], source: str) -> list[Issue]:
    """Return an issue for each class without an object in any split."""
    there = {dataset.class_names[label] for dataset in datasets for each in dataset for label in each.labels}
    names = [name for name in datasets[0].class_names if name not in there]
    return [Issue(IssueKind.NO_OBJECT, f"{source}: no object of class {name!r}") for name in names]


def _print_issues(title: str, issues: Sequence[Issue], whole: bool) -> None:
    """Print the issues by kind, with the remedy of each; without ``whole`` only the first of a kind."""
    print(f"{title}: {len(issues) or 'none'}")
    for kind, own in _by_kind(issues).items():
        shown = own if whole else own[:MAX_LINES]
        for issue in shown:
            print(f"  {printable(issue.line)} [{kind}]")
        if len(shown) < len(own):
            print(f"  ... and {len(own) - len(shown)} more (--all) [{kind}]")
        print(f"    remedy: {REMEDIES[kind]}")


def _by_kind(issues: Sequence[Issue]) -> Mapping[IssueKind, list[Issue]]:
    kinds = dict.fromkeys(issue.kind for issue in issues)
    return {kind: [issue for issue in issues if issue.kind == kind] for kind in kinds}


def _print_counts(dataset: Dataset) -> None:
    counts = count_classes(dataset)
    width = max(len("class"), *(len(name) for name in counts), 0)
    columns = ("images", "objects", "small", "medium", "large", "difficult")
    print("  " + " ".join(["class".ljust(width), *columns]))
    for name, each in counts.items():
        numbers = [str(getattr(each, column)).rjust(len(column)) for column in columns]
        print("  " + " ".join([printable(name).ljust(width), *numbers]))


def _print_forecast(config: Config, images: Sequence[Annotation]) -> None:
    """Print what a training on the images chooses, what its proposals cover, and what it takes."""
    from detector.runs.forecast import forecast
    from detector.training.adaptation import adapt_recipe

    adapted = adapt_recipe(config, images, progress)
    print(f"\nproposals and scales: {adapted}")
    if adapted.recall.is_low:
        print(f"  {adapted.recall.consequence}: {adapted.remedy}")
    paths = [each.path for each in images]
    measured = [paths[0], *paths[:: max(1, len(paths) // _MEASURED)][:_MEASURED]]
    classes = {label for each in images for label in each.labels.tolist()}
    print(f"training: {forecast(adapted.config, measured, len(images), len(classes))}")
