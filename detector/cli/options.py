"""Options that several commands share, and what they name: data sets, networks, models, recipes, boxes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from detector.boxes import Boxes
from detector.cli.console import Parser
from detector.cli.outputs import check_outputs
from detector.datasets.dataset import Dataset
from detector.datasets.records import FORMATS
from detector.runtime.files import digest
from detector.runtime.openvino import Runtime


def add_recipe(parser: Parser, example: str = "default", required: bool = True) -> None:
    """The argument CONFIG of the commands that follow a recipe; ``example``: the name of one."""
    parser.add_argument(
        "config",
        type=Path,
        nargs=None if required else "?",
        metavar="CONFIG",
        help=f"a recipe: the name of one that comes with the program, such as {example}, or a YAML file",
    )


def add_data_options(parser: Parser, required: bool = True, hold_out: bool = True) -> None:
    """Options of the commands that work on a data set; where it is not required, `data_source` asks for it.

    hold_out: with that option; a command that has another of this name goes without.
    """
    source = parser.add_mutually_exclusive_group(required=required)
    source.add_argument(
        "--data", type=Path, metavar="PATH", help="data as a labeling tool wrote them: a folder, a zip file, ..."
    )
    source.add_argument("--voc", type=Path, metavar="ROOT", help="VOC folder, or a devkit above it")
    source.add_argument("--coco", type=Path, metavar="JSON", help="annotations of object detection in COCO's form")
    parser.add_argument("--split", help="of --data: train, val or test; of --voc: a list in ImageSets/Main")
    add_layout_options(parser, hold_out)
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="of --coco: the images (default: where JSON lies)")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="the classes (default: those of the data)")
    parser.add_argument("--strict", action="store_true", help="end on any fault of the data, before any work")
    parser.add_argument(
        "--proposals", type=Path, metavar="FILE", help="take boxes by image id from a .npz, .json or R-CNN .mat file"
    )


def add_layout_options(parser: Parser, hold_out: bool = True, layout: str = "--format") -> None:
    """Options that say how --data are read; ``layout`` is what that of the layout is called."""
    parser.add_argument(layout, dest="format", choices=FORMATS, help="of --data: its layout, if not recognized")
    parser.add_argument(
        "--unlabeled",
        choices=("skip", "background"),
        default="skip",
        help="of --data: leave out images without annotation (default), or learn them as images without objects",
    )
    if hold_out:
        parser.add_argument(
            "--hold-out", type=float, metavar="PART", help="of --data without val: the part of train to keep for it"
        )


def add_network_options(parser: Parser, tuned: bool = True) -> None:
    """Options of the commands that run the network of a recipe; ``tuned``: also with fine-tuned layers."""
    parser.add_argument("--weights", type=Path, metavar="FILE", help="the backbone's weights, in place of those named")
    if tuned:
        parser.add_argument("--tuned", type=Path, metavar="FILE", help="its fine-tuned layers, a file of their own")
    add_computing_options(parser)


def add_computing_options(parser: Parser) -> None:
    """Options that say what computes the network, and where."""
    parser.add_argument(
        "--runtime", choices=get_args(Runtime), help="what computes the network (default: what the recipe says)"
    )
    parser.add_argument("--device", default="cpu", help="torch device of the network (default: cpu)")


def model_digests(options: Namespace) -> list[str]:
    """Of the contents of the files that the options of `add_model_options` name, in their order: models, weights."""
    from detector.model_file import DEFAULT_MODEL, model_path

    models = [model_path(str(path)) for path in options.model or [str(DEFAULT_MODEL)]]
    return [digest([path.read_bytes()]) for path in [*models, *map(Path, filter(None, options.weights or ()))]]


def add_model_options(parser: Parser) -> None:
    """Options of the commands that detect; `ensemble.load_ensemble` takes them."""
    parser.add_argument(
        "--model",
        type=Path,
        action="append",
        help="a model file (default: the one that comes with the package); again for a second one to go with it",
    )
    parser.add_argument(
        "--weights",
        action="append",
        metavar="FILE",
        help="where the backbone's weights are, if not where they were; as often as --model, '' for one without",
    )
    parser.add_argument(
        "--no-mirror", dest="mirror", action="store_false", help="leave out the mirror image: faster, less precise"
    )
    add_computing_options(parser)


def data_source(options: Namespace) -> dict[str, Any]:
    """Where the data set of `add_data_options` lies and whether it may have faults, as arguments of `load_checked`.

    Raises ValueError for options that do not go together.
    """
    if options.data is None and options.voc is None and options.coco is None:
        raise ValueError("a data set is needed: --data PATH, --voc ROOT --split NAME, or --coco JSON")
    if options.voc is not None and options.split is None:
        raise ValueError("--voc needs --split, the name of a list in ImageSets/Main")
    if options.voc is not None and options.pictures is not None:
        raise ValueError("--pictures goes with --coco: a VOC folder has its images in JPEGImages")
    if options.coco is not None and options.split is not None:
        raise ValueError("--split goes with --voc: a COCO file is one list of images")
    source = {name: getattr(options, name) for name in ("data", "voc", "split", "coco", "strict")}
    return {"images": options.pictures, **source, **layout_options(options)}


def split_name(options: Namespace) -> str:
    """What result files call the images: the list's name, or that of the file or folder that holds the data."""
    if options.split:
        return Path(options.split).name.removesuffix(".txt")
    stem: str = (options.coco or options.data).stem
    return stem


def layout_options(options: Namespace) -> dict[str, Any]:
    """The options of `add_layout_options` as keyword arguments; ValueError where they do not go together."""
    # of compare_settings.py, whose --hold-out is a whole number, it is the script's own
    hold_out = getattr(options, "hold_out", None)
    hold_out = hold_out if isinstance(hold_out, float) else None
    if options.data is None and (options.format or hold_out is not None or options.unlabeled != "skip"):
        raise ValueError("--format, --hold-out and --unlabeled go with --data")
    if options.data is not None and getattr(options, "pictures", None) is not None:
        raise ValueError("--pictures goes with --coco: images of --data are found by their names")
    if hold_out is not None and not 0 < hold_out < 1:
        raise ValueError(f"--hold-out must be between 0 and 1, but is {hold_out:g}")
    return {"format_name": options.format, "unlabeled": options.unlabeled, "hold_out": hold_out}


def load_data(
    options: Namespace,
    class_names: Sequence[str] | None = None,
    open_images: bool = True,
    need_objects: bool = True,
    default_split: str = "train",
) -> Dataset:
    """The checked data set of `add_data_options`, with the errors of `data_source` and `load_checked`.

    class_names: those that may occur where ``--classes`` does not say it. open_images: whether to check images, too.
    default_split: of --data, where --split does not say it.
    """
    from detector.datasets.check import load_checked
    from detector.images.files import image_size

    dataset = load_checked(
        **data_source(options),
        class_names=options.classes or class_names,
        image_size=image_size if open_images else None,
        need_objects=need_objects,
        default_split=default_split,
    )
    check_outputs(options, (each.path for each in dataset))
    return dataset


def precomputed_boxes(path: Path | None) -> Mapping[str, Boxes] | None:
    """The boxes of ``--proposals``, if given."""
    if path is None:
        return None
    from detector.proposals.sources import PrecomputedBoxes

    return PrecomputedBoxes(path)
