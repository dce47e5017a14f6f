"""What every script in tools/ does alike: options, progress, and one line for a user's mistake."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from detector.boxes import Boxes
from detector.runtime import files

USAGE_ERROR = 2
_INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a wrong option with one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {message}; see --help\n")


def output_file(text: str) -> Path:
    """Type of an option that names a file to write, refused before any work where it cannot be; ``-`` may be stdout."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder, but must be a file")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if text != "-" and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise argparse.ArgumentTypeError(f"{path} cannot be written: {folder} is not a folder that may be written to")
    return path


def run(main: Callable[[], int]) -> NoReturn:
    """Exit with the code that ``main`` returns; with 2 and one line when it raises ValueError or OSError.

    Set DETECTOR_TRACEBACK=1 to see where an error came from.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("detector").setLevel(logging.INFO)
    try:
        with logging_redirect_tqdm():
            code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader of our output is gone, as in `detect.py ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (ValueError, OSError) as error:
        if os.environ.get("DETECTOR_TRACEBACK"):
            raise
        report(error)
        code = USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = _INTERRUPTED
    sys.exit(code)


def report(error: BaseException) -> None:
    """Say in one line on stderr what went wrong."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        message = f"{error.filename}: {error.strerror.lower()}"
    print(f"error: {' '.join(message.split())}", file=sys.stderr)


def read_or_report(path: Path) -> NDArray[np.uint8] | None:
    """The image in a file; where it cannot be read, a line on standard error and None."""
    from detector.images.files import read_image

    try:
        return read_image(path)
    except (ValueError, OSError) as error:
        report(error)
        return None


def progress(items: Iterable[Any], title: str) -> Iterable[Any]:
    """Pass ``items`` on, with a bar on stderr; where that is no terminal, a line every ten seconds."""
    return tqdm(items, desc=title, file=sys.stderr, mininterval=0.1 if sys.stderr.isatty() else 10.0)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all; ``-`` is standard output."""
    if str(path) == "-":
        print(json.dumps(content, indent=2))
    else:
        files.write_json(path, content)


def add_data_options(parser: Parser, required: bool = True) -> None:
    """Options of the scripts that work on a data set; where it is not required, `data_source` asks for it."""
    source = parser.add_mutually_exclusive_group(required=required)
    source.add_argument("--voc", type=Path, metavar="ROOT", help="VOC folder, or a devkit above it")
    source.add_argument("--coco", type=Path, metavar="JSON", help="annotations of object detection in COCO's form")
    parser.add_argument("--split", help="of --voc: a list in ImageSets/Main, such as train")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="of --coco: the images (default: beside JSON)")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="the classes (default: those of the data)")
    parser.add_argument("--strict", action="store_true", help="end on any fault of the data, before any work")
    parser.add_argument(
        "--proposals", type=Path, metavar="FILE", help="take boxes by image id from a .npz, .json or R-CNN .mat file"
    )


def add_network_options(parser: Parser, tuned: bool = True) -> None:
    """Options of the scripts that run the network of a recipe; ``tuned``: also with layers of tools/tune_network.py."""
    parser.add_argument("--weights", type=Path, metavar="FILE", help="the backbone's weights, in place of those named")
    if tuned:
        parser.add_argument("--tuned", type=Path, metavar="FILE", help="its layers that tune_network.py wrote")
    parser.add_argument("--device", default="cpu", help="torch device of the network (default: cpu)")


def add_model_options(parser: Parser) -> None:
    """Options of the scripts that detect; `ensemble.load_ensemble` takes them."""
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
    parser.add_argument("--device", default="cpu", help="torch device of the network (default: cpu)")


def data_source(options: argparse.Namespace) -> dict[str, Any]:
    """Where the data set of `add_data_options` lies and whether it may have faults, as keyword arguments of a loader.

    Raises ValueError for options that do not go together.
    """
    if options.voc is None and options.coco is None:
        raise ValueError("a data set is needed: --voc ROOT --split NAME, or --coco JSON")
    if options.voc is not None and options.split is None:
        raise ValueError("--voc needs --split, the name of a list in ImageSets/Main")
    if options.voc is not None and options.pictures is not None:
        raise ValueError("--pictures goes with --coco: a VOC folder has its images in JPEGImages")
    if options.coco is not None and options.split is not None:
        raise ValueError("--split goes with --voc: a COCO file is one list of images")
    return {"images": options.pictures} | {name: getattr(options, name) for name in ("voc", "split", "coco", "strict")}


def precomputed_boxes(path: Path | None) -> Mapping[str, Boxes] | None:
    """The boxes of ``--proposals``, if given."""
    if path is None:
        return None
    from detector.proposals.sources import PrecomputedBoxes

    return PrecomputedBoxes(path)
