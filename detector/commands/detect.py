"""Name and box the objects of photographs: python tools/detect.py IMAGE..."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from detector.commands.console import Handler, Parser, command, for_each_image, output_file
from detector.commands.options import add_model_options
from detector.runtime.timing import stage, stage_times

if TYPE_CHECKING:
    from detector.detections import Detections
    from detector.ensemble import Ensemble


def parser() -> Parser:
    parser = Parser(description="Name and box the objects of photographs.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="images, folders of images, or quoted globs")
    add_model_options(parser)
    parser.add_argument("--min-score", type=float, default=0.0, metavar="S", help="least SVM margin (default: 0)")
    parser.add_argument("--max-detections", type=int, metavar="N", help="most detections an image (default: 100)")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write all detections to FILE; - is stdout")
    parser.add_argument(
        "--output", type=Path, default=Path("detections"), metavar="DIR", help="folder of the drawn copies"
    )
    parser.add_argument("--profile", action="store_true", help="tell on stderr where the time of each image went")
    return parser


@command
def main() -> int:
    options = parser().parse_args()
    if options.max_detections is not None and options.max_detections < 1:
        raise ValueError(f"--max-detections must be at least 1, but is {options.max_detections}")
    from detector.images.files import find_images

    paths = find_images(options.images)
    drawn = dict(zip(paths, output_names(paths, options.output), strict=True))

    def prepare() -> Handler:
        from detector.ensemble import load_ensemble

        detector = load_ensemble(options.model, options.device, options.weights, options.mirror)

        return partial(detect_one, detector, drawn, options)

    return for_each_image(paths, prepare, options.json)


def detect_one(
    detector: Ensemble, drawn: Mapping[Path, Path], options: Namespace, path: Path, image: Any, lines: TextIO
) -> dict[str, Any]:
    """Detect in one image, show what was found, and return it for the JSON."""
    with stage_times() as times:
        found = detector.detect(image, min_score=options.min_score, max_detections=options.max_detections)
        show(path, image, found, drawn[path], lines)
    if options.profile:
        spent = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in times.items())
        print(f"{path}: {spent}", file=sys.stderr)
    return {"detections": found.to_records()}


def show(path: Path, image: Any, found: Detections, drawn: Path, lines: TextIO) -> None:
    """Print a line a detection, and write the drawn copy."""
    from detector.images.drawing import draw_detections
    from detector.images.files import write_image

    for item in found.to_records():
        corners = "\t".join(f"{corner:.1f}" for corner in item["box"])  # type: ignore[union-attr]
        print(f"{path}\t{item['label']}\t{item['score']:.3f}\t{corners}", file=lines)
    drawn.parent.mkdir(parents=True, exist_ok=True)
    with stage("drawing"):
        write_image(drawn, draw_detections(image, found.boxes, found.labels, found.scores, found.class_names))
    print(f"{path}: {len(found)} found, drawn in {drawn}", file=sys.stderr)


def output_names(paths: list[Path], folder: Path) -> list[Path]:
    """Where each image's drawn copy goes: never twice the same file, and never one of the images."""
    from detector.images.files import WRITTEN_SUFFIXES

    taken = {path.resolve() for path in paths}
    names = []
    for path in paths:
        suffix = path.suffix if path.suffix.lower() in WRITTEN_SUFFIXES else ".png"
        candidate, number = folder / f"{path.stem}{suffix}", 1
        while candidate.resolve() in taken:
            number += 1
            candidate = folder / f"{path.stem}_{number}{suffix}"
        taken.add(candidate.resolve())
        names.append(candidate)
    return names
