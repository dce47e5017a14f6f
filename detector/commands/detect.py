"""Name and box the objects of photographs: python tools/detect.py IMAGE..."""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from detector.commands.console import (
    Handler,
    Parser,
    command,
    for_each_image,
    output_file,
    output_folder,
    printable,
)
from detector.commands.options import add_model_options
from detector.commands.thresholds import add_threshold_options, check_thresholds, default_thresholds, thresholds
from detector.results.names import ResultFolder
from detector.results.streams import STREAMS
from detector.runtime.timing import stage, stage_times

if TYPE_CHECKING:
    from detector.detections import Detections
    from detector.ensemble import Ensemble

FORMATS = (*STREAMS, "voc", "yolo", "crops")


def parser() -> Parser:
    parser = Parser(description="Name and box the objects of photographs.")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="images, folders of images, or quoted globs; - is a list on stdin"
    )
    add_model_options(parser)
    add_threshold_options(parser, "by class, where F1 was best on held-out images; 0 for a model without calibration")
    parser.add_argument("--max-detections", type=int, metavar="N", help="most detections an image (default: 100)")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write all detections to FILE; - is stdout")
    parser.add_argument(
        "--output", type=output_folder, default=Path("detections"), metavar="DIR", help="folder of the results"
    )
    parser.add_argument(
        "--format", type=formats, default=(), metavar="F,...", help=f"write to the folder: {', '.join(FORMATS)}"
    )
    parser.add_argument("--no-drawing", dest="drawing", action="store_false", help="draw no copies of the images")
    parser.add_argument("--overwrite", action="store_true", help="replace files that this program did not write, too")
    parser.add_argument("--profile", action="store_true", help="tell on stderr where the time of each image went")
    return parser


def formats(text: str) -> tuple[str, ...]:
    """Type of the option that lists formats, each once."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise ArgumentTypeError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    return names


@command
def main() -> int:
    options = parser().parse_args()
    if options.max_detections is not None and options.max_detections < 1:
        raise ValueError(f"--max-detections must be at least 1, but is {options.max_detections}")
    check_thresholds(options)
    from detector.images.files import find_images

    paths = find_images([*listed(options.images)])
    inputs = [*paths, *map(Path, options.model or ()), *map(Path, filter(None, options.weights or ()))]
    if options.json is not None:
        check_json(options.json, inputs, options.overwrite)
    if options.json is not None and str(options.json) != "-":
        inputs.append(options.json)  # nor do results replace each other
    folder = ResultFolder(options.output, inputs, options.overwrite)
    with ExitStack() as stack:
        run = Run(options, folder)
        for name in options.format:
            if name in STREAMS:
                file, write = STREAMS[name]
                run.streams.append(stack.enter_context(write(folder.fixed(file), run.class_names)))
        return for_each_image(paths, run.prepare, options.json, run.streams)


def listed(patterns: list[str]) -> Iterator[str]:
    """The patterns, with the lines of standard input in place of ``-``."""
    for pattern in patterns:
        if pattern == "-":
            yield from (os.fsdecode(name) for line in sys.stdin.buffer if (name := line.rstrip(b"\r\n")))
        else:
            yield pattern


def check_json(path: Path, inputs: list[Path], overwrite: bool) -> None:
    """Raise ValueError where ``--json`` would replace an input, or a file that is no JSON of this program."""
    if str(path) == "-" or not path.is_file():
        return
    if os.path.realpath(path) in {os.path.realpath(each) for each in inputs}:
        raise ValueError(f"--json {path} would replace what is read")
    with path.open("rb") as file:
        start = file.read(1 << 16)
    ours = rb'\[(\]\s*$|\n  \{\n    "image": .*\n    "width": \d+,\n    "height": \d+,\n)|$'
    if not overwrite and not re.match(ours, start):
        raise ValueError(f"--json {path} is there, and not written by this program; say --overwrite to replace it")


@dataclass
class Run:
    """What one call does with every image; class_names are known when the model is loaded."""

    options: Namespace
    folder: ResultFolder
    class_names: list[str] = field(default_factory=list)
    streams: list[Callable[[Mapping[str, Any]], None]] = field(default_factory=list)

    def prepare(self) -> Handler:
        """Load the model."""
        from detector.ensemble import load_ensemble

        options = self.options
        detector = load_ensemble(options.model, options.device, options.weights, options.mirror)
        least = thresholds(options, detector)
        least = default_thresholds(detector) if least is None else least
        self.class_names.extend(detector.class_names)
        if "yolo" in options.format:
            from detector.results.files import write_class_names

            write_class_names(self.folder.fixed("yolo/classes.txt"), detector.class_names)

        def handle(path: Path, image: Any, lines: TextIO) -> dict[str, Any]:
            with stage_times() as times:
                found = self.detect(detector, least, path, image)
                self.show(path, image, found, lines)
            if options.profile:
                spent = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in times.items())
                print(f"{printable(path)}: {spent}", file=sys.stderr)
            return {"detections": found.to_records()}

        return handle

    def detect(self, detector: Ensemble, least: NDArray[np.float32], path: Path, image: Any) -> Detections:
        """Objects that reach the thresholds ``(K,)``; where there are none, say how far below the best box is."""
        settings = detector.detectors[0].settings
        low, most = settings.limits(None, self.options.max_detections)
        every = detector.detect(image, None, min(float(least.min()), low), max(most, settings.max_detections))
        found = every.reaching(least).top(most)
        if not len(found):
            print(f"{printable(path)}: nothing found; {nearest(every, least, low)}", file=sys.stderr)
        return found

    def show(self, path: Path, image: Any, found: Detections, lines: TextIO) -> None:
        """Print a line a detection, and write the files of this image."""
        for item in found.to_records():
            corners = "\t".join(f"{corner:.1f}" for corner in item["box"])  # type: ignore[union-attr]
            print(f"{printable(path)}\t{item['label']}\t{item['score']:.3f}\t{corners}", file=lines)
        drawn = self.write_files(path, image, found)
        where = "" if drawn is None else f", drawn in {printable(drawn)}"
        print(f"{printable(path)}: {len(found)} found{where}", file=sys.stderr)

    def write_files(self, path: Path, image: Any, found: Detections) -> Path | None:
        """Write the files of this image, all with the same number; return that of the drawn copy, if there is one."""
        from detector.images.drawing import draw_detections
        from detector.images.files import WRITTEN_SUFFIXES, write_image
        from detector.results.files import write_crops, write_voc, write_yolo

        wanted = self.options.format
        suffix = path.suffix if path.suffix.lower() in WRITTEN_SUFFIXES else ".png"
        patterns = {"drawn": f"*{suffix}"} if self.options.drawing else {}
        patterns |= {name: f"{name}/*.{end}" for name, end in (("voc", "xml"), ("yolo", "txt")) if name in wanted}
        files = dict(zip(patterns, self.folder.numbered(path.stem, [*patterns.values()]), strict=True))
        with stage("drawing"):
            if "drawn" in files:
                drawn = draw_detections(image, found.boxes, found.labels, found.scores, found.class_names)
                write_image(files["drawn"], drawn)
        if "voc" in files:
            write_voc(files["voc"], path, image, found)
        if "yolo" in files:
            write_yolo(files["yolo"], image, found)
        if "crops" in wanted:
            write_crops(self.folder, path.stem, suffix, image, found)
        return files.get("drawn")


def nearest(every: Detections, least: NDArray[np.float32], low: float) -> str:
    """The box that comes nearest to the threshold of its class, in words; ``low`` is the least score looked at."""
    if not len(every):
        return f"no box scores {low:g} or more"
    gaps = least[every.labels] - every.scores
    best = int(np.argmin(gaps))
    name, score = every.class_names[every.labels[best]], every.scores[best]
    if np.isinf(gaps[best]):
        return f"the best box is {name!r} with a score of {score:.2f}, of which nothing is kept"
    return f"the best box is {name!r} with a score of {score:.2f}, {gaps[best]:.2f} below the threshold"
