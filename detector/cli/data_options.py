"""Options that name a dataset, and the dataset that they name."""

from __future__ import annotations

from argparse import Action, ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.boxes import Boxes
from detector.cli.console import Parser
from detector.cli.outputs import check_outputs
from detector.datasets.check import load_checked
from detector.datasets.dataset import Dataset
from detector.datasets.format_detection import FORMATS
from detector.datasets.loading import DataSource


def add_data_options(parser: Parser, required: bool = True) -> None:
    """Add the options of verbs that work on a dataset; if it is not required, `data_source` checks that it is given."""
    source = parser.add_mutually_exclusive_group(required=required)
    source.add_argument(
        "--data", type=Path, action=AddData, metavar="PATH", help="export of a labeling tool; several are joined"
    )
    parser.set_defaults(more_data=())
    source.add_argument("--voc", type=Path, metavar="ROOT", help="VOC folder, or a devkit above it")
    source.add_argument("--coco", type=Path, metavar="JSON", help="COCO annotations for object detection")
    parser.add_argument("--split", help="of --data: train, val or test; of --voc: a list in ImageSets/Main")
    add_format_options(parser)
    parser.add_argument("--images", type=Path, metavar="DIR", help="of --coco: image folder (default: that of JSON)")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="the classes (default: those of the data)")
    parser.add_argument("--strict", action="store_true", help="end on any issue of the data, before any work")
    parser.add_argument(
        "--proposals", type=Path, metavar="FILE", help="read boxes by image id from a .npz, .json or R-CNN .mat file"
    )


class AddData(Action):
    """Store the first dataset of the command line as ``data``, the others as ``more_data``."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option: str | None = None) -> None:
        paths = values if isinstance(values, list) else [values]
        if getattr(namespace, "data", None) is None:
            namespace.data, *paths = paths
        namespace.more_data = (*getattr(namespace, "more_data", ()), *paths)


def add_format_options(parser: Parser, flag: str = "--format") -> None:
    """Add the options for how data are read; ``flag`` is the name of the one for their format."""
    parser.add_argument(flag, dest="format", choices=FORMATS, help="of --data: its format, if not recognized")
    parser.add_argument(
        "--unlabeled",
        "--unlabelled",
        choices=("skip", "background"),
        default="skip",
        help="of --data: leave out images without annotation (default), or use them as images without objects",
    )
    parser.add_argument(
        "--hold-out", type=float, metavar="PART", help="of --data without val: fraction of train to keep for it"
    )


def data_source(options: Namespace) -> DataSource:
    """Return the location of the dataset of `add_data_options`. Raises ValueError for options that do not fit."""
    if options.data is not None:
        if options.images is not None:
            raise ValueError("--images goes with --coco: images of --data are found by their names")
        return format_source(options)
    if options.voc is None and options.coco is None:
        raise ValueError("a dataset is needed: --data PATH, --voc ROOT --split NAME, or --coco JSON")
    if options.format or options.unlabeled != "skip" or options.hold_out is not None:
        raise ValueError("--format, --hold-out and --unlabeled go with --data")
    if options.coco is not None:
        if options.split is not None:
            raise ValueError("--split goes with --voc: a COCO file is one list of images")
        return DataSource(options.coco, shorthand="coco", images=options.images)
    if options.images is not None:
        raise ValueError("--images goes with --coco: a VOC folder has its images in JPEGImages")
    return DataSource(options.voc, options.split, shorthand="voc")


def format_source(options: Namespace) -> DataSource:
    """Return the location of ``options.data``, read by `add_format_options`."""
    if options.hold_out is not None and not 0 < options.hold_out < 1:
        raise ValueError(f"--hold-out must be between 0 and 1, but is {options.hold_out:g}")
    split = getattr(options, "split", None)
    return DataSource(
        options.data, split, options.format, options.hold_out, options.unlabeled, more=tuple(options.more_data)
    )


def split_name(options: Namespace) -> str:
    """Return the name of the images in result files: that of the list, or of the file or folder of the data."""
    if options.split:
        return Path(options.split).name.removesuffix(".txt")
    stem: str = (options.coco or options.data).stem
    return stem


def load_data(options: Namespace, class_names: Sequence[str] | None = None, **checks: Any) -> Dataset:
    """Load the dataset of `add_data_options`, with the errors of `data_source`, `load_checked` and `check_outputs`.

    class_names: the classes that may occur, unless ``--classes`` is given. checks: keyword arguments of `load_checked`.
    """
    dataset = load_checked(
        data_source(options), class_names=options.classes or class_names, strict=options.strict, **checks
    )
    check_outputs(options, (each.path for each in dataset))
    return dataset


def precomputed_boxes(path: Path | None) -> Mapping[str, Boxes] | None:
    """Return the boxes of ``--proposals``, if given."""
    if path is None:
        return None
    from detector.proposals.sources import PrecomputedBoxes

    return PrecomputedBoxes(path)
