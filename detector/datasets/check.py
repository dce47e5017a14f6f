"""Load a dataset, report all of its issues, and go on without what they concern."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detector.datasets.dataset import Dataset
from detector.datasets.inspection import similar_class_names
from detector.datasets.issues import Issue, IssueKind, Report, count_issues, log_issues
from detector.datasets.loading import DataSource, load_dataset, load_splits, training_split

_log = logging.getLogger(__name__)


def load_checked(
    source: DataSource,
    *,
    class_names: Sequence[str] | None = None,
    strict: bool = False,
    open_images: bool = True,
    need_objects: bool = True,
    default_split: str = "train",
) -> Dataset:
    """Load a dataset without the images and objects that have issues.

    class_names: the classes that may occur. None: those of the data that have objects.
    strict: whether an issue is an error.
    need_objects: whether a class without objects is an issue; classes in class_names stay in any case.
    open_images, default_split: as `load_dataset` takes them.
    Issues are logged as warnings, the first ones of each kind. Raises OSError and ValueError where there is no such
    dataset, where strict is set and there is an issue, and where no object is left.
    """
    issues: list[Issue] = []
    notes: list[str] = []
    dataset = load_dataset(source, class_names, issues.append, notes.append, default_split, open_images)
    if need_objects:
        dataset = check_classes(dataset, class_names is None, issues.append)
    _conclude(dataset, issues, strict, notes)
    return dataset


def load_checked_splits(
    source: DataSource, *, class_names: Sequence[str] | None = None, strict: bool = False
) -> list[Dataset]:
    """Load all splits of data of any tool; only the first, to train on, is checked as by `load_checked`.

    It is train, or all images where there are no splits. Raises ValueError where there are splits, but not train.
    """
    issues: list[Issue] = []
    notes: list[str] = []
    datasets = load_splits(source, class_names, issues.append, notes.append)
    first = training_split(datasets)
    if first is None:
        raise ValueError(f"{source.path}: there is no split 'train', there are: {', '.join(datasets)}")
    train = check_classes(datasets.pop(first), class_names is None, issues.append)
    _conclude(train, issues, strict, notes)
    return [train, *datasets.values()]


def check_classes(dataset: Dataset, drop: bool, report: Report) -> Dataset:
    """Report classes without objects; leave them out if ``drop`` is set."""
    present = np.unique(np.concatenate([np.zeros(0, np.int64), *(each.labels for each in dataset)]))
    for label, name in enumerate(dataset.class_names):
        if label not in present:
            report(Issue(IssueKind.NO_OBJECT, f"{dataset.name}: no object of class {name!r}"))
    if not drop or len(present) == len(dataset.class_names):
        return dataset
    annotations = tuple(replace(each, labels=np.searchsorted(present, each.labels)) for each in dataset)
    return Dataset(annotations, tuple(dataset.class_names[label] for label in present), dataset.name)


def _conclude(dataset: Dataset, issues: Sequence[Issue], strict: bool, notes: Sequence[str]) -> None:
    """Log what was found and what is left; raise ValueError where strict is set, or no object is left.

    notes: lines about data whose format was recognized. `spp data check` lists the issues of such data, so the error
        names only the first one.
    """
    n_objects = sum(len(each.labels) for each in dataset)
    if not n_objects or (notes and issues and strict):
        what = "--strict allows no issues" if n_objects else f"no object is left in {len(dataset)} images"
        raise ValueError("; ".join([f"{dataset.name}: {what}", *(issue.line for issue in issues[:1]), *notes[1:]]))
    for note in notes:
        _log.info("%s", note)
    for issue in similar_class_names(dataset.class_names, dataset.name):
        _log.warning("%s", issue.line)
    log_issues(dataset.name, issues, strict)
    if issues:
        left = f"{len(dataset)} images, {n_objects} objects"
        _log.warning("%s: found %s; going on with %s", dataset.name, count_issues(issues), left)
