"""Look at, check and convert data sets of labeling tools; images to label next.

spp data check PATH
spp data convert PATH FOLDER --format coco
spp data show PATH --output sheet.jpg
spp data next UNLABELED --model MODEL --count 10
"""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from detector.cli import next_images
from detector.cli.console import Parser, printable, progress
from detector.cli.options import add_layout_options, layout_options
from detector.cli.outputs import OutputFile, check_outputs, check_writable
from detector.config.detector import Config, load_config
from detector.datasets.check import log_faults
from detector.datasets.dataset import REMEDIES, Dataset, Fault, Kind
from detector.datasets.inspection import count_classes, near_duplicates, suspicions
from detector.datasets.opening import open_splits
from detector.datasets.writing import WRITTEN_FORMATS, check_new_folder, write_dataset
from detector.images.drawing import contact_sheet
from detector.images.files import WRITTEN_SUFFIXES, read_image, write_image
from detector.images.resizing import NEAR, look
from detector.results.files import ResultFolder, is_listed
from detector.runs.dry_run import describe

_MEASURED = 3  # images


def parser() -> Parser:
    parser = Parser(description="Look at, check and convert data sets as labeling tools write them.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    checked = commands.add_parser("check", help="name all faults, count, and tell what a training would cost")
    _add_data(checked)
    checked.add_argument("--strict", action="store_true", help="end with code 2 where there is a fault")
    checked.add_argument("--config", type=Path, metavar="CONFIG", help="the recipe to predict (default: the default's)")
    checked.add_argument("--no-forecast", dest="forecast", action="store_false", help="predict no training")
    converted = commands.add_parser("convert", help="write the data in another layout, to the bit")
    _add_data(converted, layout="--from")
    converted.add_argument("folder", type=Path, metavar="FOLDER", help="the folder to write")
    converted.add_argument("--format", dest="to", choices=WRITTEN_FORMATS, required=True, help="the layout to write")
    converted.add_argument("--overwrite", action="store_true", help="replace what FOLDER holds")
    converted.add_argument("--strict", action="store_true", help="end with code 2 where there is a fault")
    shown = commands.add_parser("show", help="draw images with their boxes on a sheet")
    _add_data(shown)
    shown.add_argument(
        "--output", type=OutputImage(is_listed), default="sheet.jpg", metavar="FILE", help="default: sheet.jpg"
    )
    shown.add_argument("--count", type=int, default=12, metavar="N", help="how many images (default: 12)")
    taught = commands.add_parser("next", help="tell which images to label next, and draft their boxes")
    next_images.add_options(taught)
    return parser


def _add_data(parser: Parser, layout: str = "--format") -> None:
    parser.add_argument("data", type=Path, metavar="PATH", help="a folder, a zip file, or the JSON, YAML or CSV file")
    add_layout_options(parser, layout=layout)


class OutputImage(OutputFile):
    """Type of an option that names an image to write."""

    def __call__(self, text: str) -> Path:
        path = super().__call__(text)
        if path.suffix.lower() not in WRITTEN_SUFFIXES:
            raise ArgumentTypeError(f"{path}: must end in one of {', '.join(sorted(WRITTEN_SUFFIXES))}")
        return path


def main() -> int:
    options = parser().parse_args()
    run = {"check": check, "convert": convert, "show": show, "next": next_images.next_images}
    return run[options.command](options)


def check(options: Namespace) -> int:
    """Print faults, what is probably wrong, counts, near-duplicates and a forecast."""
    config = Config() if options.config is None else load_config(options.config)
    faults: list[Fault] = []
    doubts: list[Fault] = []
    datasets = open_splits(
        options.data,
        **layout_options(options),
        report=faults.append,
        inspect=lambda objects, header: doubts.extend(suspicions(objects, header)),
    )
    hashes: dict[str, Any] = {}
    for split, dataset in datasets.items():
        hashes[split or "all"] = _looks(dataset, faults)
    faults += _without_objects([*datasets.values()], str(options.data))
    doubts += near_duplicates(hashes, NEAR)
    _print_faults("faults", faults)
    _print_faults("worth a look", doubts)
    for split, dataset in datasets.items():
        print(f"\n{split or 'all'}: {describe([dataset])}")
        _print_counts(dataset)
    train = datasets.get("", datasets.get("train"))
    if options.forecast and train is not None and hashes["all" if "" in datasets else "train"]:
        print(f"\ntraining: {_forecast(config, train, hashes['all' if '' in datasets else 'train'])}")
    if options.strict and faults:
        counts = Counter(fault.kind for fault in faults)
        summary = ", ".join(f"{count} x {kind}" for kind, count in counts.items())
        raise ValueError(f"{options.data}: found {summary}, where strict allows no fault")
    if not any(len(each.labels) for dataset in datasets.values() for each in dataset):
        raise ValueError(f"{options.data}: no object is left in {sum(map(len, datasets.values()))} images")
    print(f"\n{describe([*datasets.values()])}")
    return 0


def _without_objects(datasets: list[Dataset], source: str) -> list[Fault]:
    """Classes of the data that no split has an object of."""
    there = {dataset.class_names[label] for dataset in datasets for each in dataset for label in each.labels}
    names = datasets[0].class_names
    return [Fault(Kind.NO_OBJECT, f"{source}: no object of class {name!r}") for name in names if name not in there]


def _looks(dataset: Dataset, faults: list[Fault]) -> list[tuple[Path, Any]]:
    """What each image looks like; one that cannot be decoded is a fault that its header did not show."""
    found = []
    for each in progress(dataset, f"images of {dataset.name}"):
        try:
            found.append((each.path, look(read_image(each.path))))
        except (OSError, ValueError) as error:
            faults.append(Fault(Kind.BAD_IMAGE, str(error)))
    return found


def _print_faults(title: str, faults: list[Fault]) -> None:
    print(f"{title}: {len(faults) or 'none'}")
    for kind in dict.fromkeys(fault.kind for fault in faults):
        for fault in faults:
            if fault.kind == kind:
                print(f"  {printable(fault.line)} [{kind}]")
        print(f"    remedy: {REMEDIES[kind]}")


def _print_counts(dataset: Dataset) -> None:
    counts = count_classes(dataset)
    width = max(len("class"), *(len(name) for name in counts), 0)
    columns = ("images", "objects", "small", "medium", "large", "difficult")
    print("  " + " ".join(["class".ljust(width), *columns]))
    for name, each in counts.items():
        numbers = [str(getattr(each, column)).rjust(len(column)) for column in columns]
        print("  " + " ".join([printable(name).ljust(width), *numbers]))


def _forecast(config: Config, dataset: Dataset, sound: list[tuple[Path, Any]]) -> str:
    from detector.runs.forecast import forecast

    paths = [path for path, _ in sound]
    chosen = [paths[0], *paths[:: max(1, len(paths) // _MEASURED)][:_MEASURED]]
    classes = {label for each in dataset for label in each.labels.tolist()}
    return str(forecast(config.for_images(len(dataset)), chosen, len(dataset), max(1, len(classes))))


def convert(options: Namespace) -> int:
    """Write a data set in another layout."""
    source, target = options.data.resolve(), options.folder.resolve()
    if target == source or target in source.parents or source in target.parents:
        raise ValueError(f"{options.folder}: must lie outside of {options.data}, which is read")
    check_new_folder(options.folder, options.overwrite)
    check_writable(options.folder, options.folder.absolute().parent)
    faults: list[Fault] = []
    datasets = open_splits(options.data, **layout_options(options), report=faults.append)
    log_faults(str(options.data), faults, options.strict)
    if not any(map(len, datasets.values())):
        raise ValueError(f"{options.data}: no image is left")
    if any(target in each.path.resolve().parents for dataset in datasets.values() for each in dataset):
        raise ValueError(f"{options.folder}: holds images that are read: give another folder")
    write_dataset(datasets, options.folder, options.to, options.overwrite)
    print(f"{options.folder}: {describe([*datasets.values()])}")
    return 0


def show(options: Namespace) -> int:
    """Write a sheet of images with their boxes, spread over all of them."""
    if options.count < 1:
        raise ValueError(f"--count must be at least 1, but is {options.count}")
    faults: list[Fault] = []
    datasets = open_splits(options.data, **layout_options(options), report=faults.append)
    log_faults(str(options.data), faults, strict=False)
    images = [(split, each) for split, dataset in datasets.items() for each in dataset]
    check_outputs(options, (each.path for _, each in images))
    rows = np.unique(np.linspace(0, len(images) - 1, min(options.count, len(images))).round().astype(int))
    tiles = (
        (read_image(each.path), each.boxes, each.labels, f"{split} {each.image_id}".strip())
        for split, each in (images[row] for row in rows)
    )
    sheet = contact_sheet(tiles, next(iter(datasets.values())).class_names)
    ResultFolder(options.output.parent, (), overwrite=True).take(options.output)
    write_image(options.output, sheet)
    print(f"{options.output}: {len(rows)} of {len(images)} images")
    return 0
