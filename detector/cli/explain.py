"""Attribute the scores of detections to image regions, and diagnose missed objects: spp explain IMAGE..."""

from __future__ import annotations

import argparse
import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from detector.cli.console import Parser, console, printable, result_line
from detector.cli.images import Handler, for_each_image
from detector.cli.options import (
    add_model_options,
    add_scores_option,
    add_threshold_options,
    check_thresholds,
    thresholds,
)
from detector.cli.outputs import check_outputs, output_folder, output_records, result_folder

if TYPE_CHECKING:
    from detector.ensemble import Ensemble
    from detector.explanation.attribution import Attribution
    from detector.results.files import ResultFolder


def parser() -> Parser:
    parser = Parser(description="Attribute the scores of detections to image regions, and diagnose missed objects.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="images, folders of images, or quoted globs")
    add_model_options(parser)
    add_threshold_options(parser)
    add_scores_option(parser)
    parser.add_argument(
        "--max-detections", type=int, metavar="N", help="maximum detections per image (default: that of the recipe)"
    )
    parser.add_argument("--box", type=corners, metavar="X1,Y1,X2,Y2", help="diagnose this box, too, found or not")
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="class of --box")
    parser.add_argument("--json", type=output_records, metavar="FILE", help="write all numbers to FILE; - is stdout")
    parser.add_argument(
        "--output",
        type=output_folder,
        default="explanations",
        metavar="DIR",
        help="folder of the panels, one per detection (default: explanations)",
    )
    return parser


def corners(text: str) -> list[float]:
    """Parse a box: four numbers separated by commas."""
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4 or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"must be four numbers x1,y1,x2,y2, but is {text!r}")
    return values


def main() -> int:
    options = parser().parse_args()
    if options.max_detections is not None and options.max_detections < 1:
        raise ValueError(f"--max-detections must be at least 1, but is {options.max_detections}")
    if (options.box is None) != (options.class_name is None):
        raise ValueError("--box and --class go together: --box 10,20,110,220 --class dog")
    check_thresholds(options)
    from detector.images.files import find_images

    paths = find_images(options.images)
    check_outputs(options, paths)
    folder = result_folder(options, "output", paths)

    def prepare() -> Handler:
        from detector.ensemble import load_ensemble

        ensemble = load_ensemble(options.model, options.device, options.runtime)
        return partial(explain_one, ensemble, folder, options)

    return for_each_image(paths, prepare, options.json)


def explain_one(
    ensemble: Ensemble, folder: ResultFolder, options: argparse.Namespace, path: Path, image: Any, lines: TextIO
) -> dict[str, Any]:
    """Explain the detections of one image, and diagnose the box of the options; return the record for the JSON."""
    from detector.explanation.explainer import Explainer
    from detector.thresholds import TOO_WEAK

    explainer = Explainer(ensemble, image)
    limits = thresholds(options, ensemble), options.max_detections
    record: dict[str, Any] = {}
    panels: list[tuple[str, Attribution, str]] = []
    if options.box is not None:
        diagnosis = explainer.explain_box(options.box, options.class_name, *limits)
        panels.append(("asked", diagnosis.attribution, diagnosis.sentence))
        record["asked"] = diagnosis.to_record()
    found = explainer.detect(*limits)
    attributions = explainer.explain(found)
    pairs = zip(found.to_records(), attributions, strict=True)
    record["detections"] = [item | each.to_record() for item, each in pairs]
    panels += [(str(number), each, "") for number, each in enumerate(attributions, start=1)]
    for name, each, sentence in panels:
        (panel,) = folder.numbered(f"{path.stem}-{name}", ["*.png"])
        write_panel(panel, image, each, ensemble.class_names.index(each.class_name), sentence)
        words = [printable(path), result_line(each.detection, options.scores), printable(panel)]
        print(*words, *map(printable, filter(None, [sentence])), sep="\t", file=lines)
    if not console.quiet:
        note = f"; {TOO_WEAK}" if limits[0] is None and ensemble.too_weak else ""
        print(f"{printable(path)}: {len(found)} found, explained in {printable(options.output)}{note}", file=sys.stderr)
    return record


def write_panel(path: Path, image: Any, attribution: Attribution, label: int, sentence: str) -> None:
    from detector.explanation.panel import draw_panel
    from detector.images.drawing import class_color
    from detector.images.files import write_image

    write_image(path, draw_panel(image, attribution, class_color(label), sentence))
