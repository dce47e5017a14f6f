"""Check, convert and show datasets of labeling tools, find label errors, and select images to label next.

spp data check PATH ...
spp data convert PATH ... FOLDER --format coco
spp data show PATH ... --output sheet.jpg
spp data doubt PATH ... --model RUN
spp data next UNLABELED --model MODEL --count 10
"""

from __future__ import annotations

import logging
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detector.cli.console import Parser, print_error, printable, progress
from detector.cli.data_check import check
from detector.cli.data_doubt import doubt
from detector.cli.data_options import AddData, add_format_options, format_source
from detector.cli.options import add_computing_options, add_threshold_options, check_thresholds, thresholds
from detector.cli.outputs import OutputFile, cache_folder, check_outputs, check_writable, output_folder
from detector.datasets.dataset import Dataset
from detector.datasets.issues import Issue, log_issues
from detector.datasets.joining import without_copies
from detector.datasets.loading import DataSource, load_splits
from detector.datasets.writing import WRITTEN_FORMATS, check_new_folder, write_dataset
from detector.images.drawing import contact_sheet
from detector.images.files import WRITTEN_SUFFIXES, find_images, read_image, write_image
from detector.results.files import ResultFolder, is_listed
from detector.runs.training_data import describe
from detector.runtime.files import cache_root

_log = logging.getLogger(__name__)


def parser() -> Parser:
    parser = Parser(description="Check, convert and show datasets, find label errors, select images to label next.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    checked = commands.add_parser("check", help="report all issues, count objects, and forecast a training")
    _add_data(checked)
    checked.add_argument("--all", action="store_true", help="print all lines of each kind, not only the first ten")
    checked.add_argument("--strict", action="store_true", help="end with code 2 if there is an issue")
    checked.add_argument("--config", type=Path, metavar="CONFIG", help="recipe to forecast (default: default)")
    checked.add_argument("--no-forecast", dest="forecast", action="store_false", help="forecast no training")
    converted = commands.add_parser("convert", help="write the data in another format, with identical boxes")
    _add_data(converted, flag="--from")
    converted.add_argument("folder", type=Path, metavar="FOLDER", help="the folder to write")
    converted.add_argument("--format", dest="to", choices=WRITTEN_FORMATS, required=True, help="the format to write")
    converted.add_argument("--overwrite", action="store_true", help="replace the content of FOLDER")
    converted.add_argument("--strict", action="store_true", help="end with code 2 if there is an issue")
    shown = commands.add_parser("show", help="draw images with their boxes on one sheet")
    _add_data(shown)
    shown.add_argument(
        "--output", type=OutputImage(is_listed), default="sheet.jpg", metavar="FILE", help="default: sheet.jpg"
    )
    shown.add_argument("--count", type=int, default=12, metavar="N", help="number of images (default: 12)")
    _add_doubt(commands.add_parser("doubt", help="find the likeliest label errors, and draw them on one sheet"))
    _add_next(commands.add_parser("next", help="select the images to label next, and draft their boxes"))
    return parser


def _add_data(parser: Parser, flag: str = "--format") -> None:
    parser.add_argument(
        "data",
        type=Path,
        nargs="+",
        action=AddData,
        metavar="PATH",
        help="a folder, an archive, or an annotation file; several are joined",
    )
    parser.set_defaults(more_data=())
    add_format_options(parser, flag)


def _add_doubt(parser: Parser) -> None:
    _add_data(parser)
    parser.add_argument(
        "--model",
        type=Path,
        help="a model of these classes, or its run (default: the newest in runs/, else the package's)",
    )
    add_computing_options(parser)
    parser.add_argument("--count", type=int, default=24, metavar="N", help="number of doubts (default: 24)")
    parser.add_argument(
        "--output", type=OutputImage(is_listed), default="doubts.jpg", metavar="FILE", help="default: doubts.jpg"
    )
    parser.add_argument("--cache", type=cache_folder, metavar="DIR", help="folder of cached features, as in training")


def _add_next(parser: Parser) -> None:
    parser.add_argument(
        "images", nargs="+", metavar="UNLABELED", help="images without labels: files, folders, or quoted globs"
    )
    parser.add_argument("--model", type=Path, help="a model file (default: the one that comes with the package)")
    parser.add_argument(
        "--data", type=Path, action=AddData, metavar="PATH", help="labeled data, whose images are not selected again"
    )
    parser.set_defaults(more_data=())
    add_computing_options(parser)
    parser.add_argument("--count", type=int, default=10, metavar="N", help="number of images (default: 10)")
    parser.add_argument(
        "--format", choices=WRITTEN_FORMATS, default="voc", help="the format of the drafts (default: voc)"
    )
    parser.add_argument(
        "--output",
        type=output_folder,
        default=Path("to-label"),
        metavar="DIR",
        help="the folder for images and drafts (default: to-label)",
    )
    parser.add_argument(
        "--cache", type=cache_folder, metavar="DIR", help="folder of cached features (default: one in the user's cache)"
    )
    add_threshold_options(parser, "by class, where F1 was best on held-out images; 0 for a model without calibration")


class OutputImage(OutputFile):
    """Type of an option that names an image to write."""

    def __call__(self, text: str) -> Path:
        path = super().__call__(text)
        if path.suffix.lower() not in WRITTEN_SUFFIXES:
            raise ArgumentTypeError(f"{path}: must end in one of {', '.join(sorted(WRITTEN_SUFFIXES))}")
        return path


def main() -> int:
    options = parser().parse_args()
    run = {"check": check, "convert": convert, "show": show, "doubt": doubt, "next": next_images}
    return run[options.command](options)


def convert(options: Namespace) -> int:
    """Write a dataset in another format."""
    target = options.folder.resolve()
    for path in (options.data, *options.more_data):
        source = path.resolve()
        if target == source or target in source.parents or source in target.parents:
            raise ValueError(f"{options.folder}: must be outside of {path}, which is read")
    check_new_folder(options.folder, options.overwrite)
    check_writable(options.folder, options.folder.absolute().parent)
    datasets = _load_splits(options, options.strict)
    if not any(map(len, datasets.values())):
        raise ValueError(f"{options.data}: no image is left")
    if any(target in each.path.resolve().parents for dataset in datasets.values() for each in dataset):
        raise ValueError(f"{options.folder}: holds images that are read; give another folder")
    write_dataset(datasets, options.folder, options.to, options.overwrite)
    print(f"{options.folder}: {describe([*datasets.values()])}")
    return 0


def _load_splits(options: Namespace, strict: bool = False) -> dict[str, Dataset]:
    """Load all splits and log their issues."""
    issues: list[Issue] = []
    datasets = load_splits(format_source(options), report=issues.append)
    log_issues(str(options.data), issues, strict)
    return datasets


def show(options: Namespace) -> int:
    """Draw evenly spaced images with their boxes on one sheet."""
    if options.count < 1:
        raise ValueError(f"--count must be at least 1, but is {options.count}")
    datasets = _load_splits(options)
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


def next_images(options: Namespace) -> int:
    """Write the images that are most useful to label to a folder, with drafts of their boxes, and print them."""
    from detector.ensemble import load_ensemble
    from detector.runs.next_images import draft, score_images, select

    if options.count < 1:
        raise ValueError(f"--count must be at least 1, but is {options.count}")
    check_thresholds(options)
    paths = _unlabeled(options)
    _check_drafts(options, paths)
    model = load_ensemble(None if options.model is None else [options.model], options.device, options.runtime)
    min_scores = thresholds(options, model)
    (detector,) = model.models
    cache = options.cache or cache_root() / "unlabeled"
    if options.cache is None:
        _log.info("features are kept in %s; spp cache --clean frees the space", cache)
    scored = score_images(detector, progress(paths, "images"), cache, _print_image_error)
    if not scored:
        raise ValueError(f"none of the {len(paths)} images could be read")
    uncertainties = np.array([each.uncertainty for each in scored])
    rows = select(uncertainties, np.stack([each.features for each in scored]), options.count)
    drafts = {row: draft(scored[row], model.default_thresholds if min_scores is None else min_scores) for row in rows}
    dataset = Dataset(tuple(drafts.values()), model.class_names, "drafts")
    write_dataset({"": dataset}, options.output, options.format, options.overwrite)
    for row in rows:
        print(f"{printable(scored[row].path)}\t{scored[row].uncertainty:.3f}\t{len(drafts[row].labels)}")
    _log.info("%s: %d of %d images, with drafts of their boxes", options.output, len(rows), len(scored))
    return 0 if len(scored) == len(paths) else 2


def _unlabeled(options: Namespace) -> list[Path]:
    """Return the images to select from, without those that the labeled data hold."""
    paths = find_images(options.images)
    if options.data is None:
        return paths
    datasets = load_splits(DataSource(options.data, more=options.more_data), report=lambda issue: None)
    left = without_copies(paths, [each.path for dataset in datasets.values() for each in dataset])
    _log.info("%d of %d images are labeled already", len(paths) - len(left), len(paths))
    if not left:
        raise ValueError(f"all {len(paths)} images are labeled already; give others")
    return left


def _check_drafts(options: Namespace, paths: Sequence[Path]) -> None:
    """Raise FileExistsError or ValueError for an output folder that holds files or would replace the images."""
    check_new_folder(options.output, options.overwrite)
    target = options.output.resolve()
    if inside := [path for path in paths if target in path.resolve().parents]:
        raise ValueError(f"{options.output}: must not hold images that are read, but holds {inside[0]}")


def _print_image_error(path: Path, error: Exception) -> None:
    print_error(error if str(path) in str(error) else ValueError(f"{path}: {error}"))
