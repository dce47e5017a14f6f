"""Tell what photographs show: spp classify IMAGE... --model MODEL"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO

import numpy as np

from detector.cli.console import Parser, for_each_image, printable
from detector.cli.outputs import check_outputs, output_records
from detector.images.files import find_images


def parser() -> Parser:
    parser = Parser(description="Tell what photographs show, with a trained classifier.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="images, folders of images, or quoted globs")
    parser.add_argument("--model", type=Path, required=True, help="a model file")
    parser.add_argument("--weights", type=Path, help="where frozen weights are, if not where they were")
    parser.add_argument(
        "--views",
        choices=("one", "ten", "whole", "multi"),
        help="the central crop, ten crops, the whole image, or windows at six scales "
        "(default: whole, or one for a model without pyramid)",
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="S",
        help="pixels of the shorter side, before crops are taken (default: the model's)",
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes an image (default: 5)")
    parser.add_argument("--json", type=output_records, metavar="FILE", help="write all results to FILE; - is stdout")
    parser.add_argument("--device", default="cpu", help="torch device of the network (default: cpu)")
    return parser


def main() -> int:
    options = parser().parse_args()
    if options.top < 1:
        raise ValueError(f"--top must be at least 1, but is {options.top}")
    paths = find_images(options.images)
    check_outputs(options, paths)
    from detector.classification.model import Classifier

    classifier = Classifier.load(options.model, options.device, options.weights)
    classifier.check_views(options.views, options.size)  # before an image is blamed

    def classify_one(path: Path, image: Any, lines: TextIO) -> dict[str, Any]:
        scores = classifier.scores([image], options.views, options.size)[0]
        classes = best(scores, classifier.class_names, options.top)
        for each in classes:
            print(f"{printable(path)}\t{printable(each['label'])}\t{each['probability']:.3f}", file=lines)
        return {"classes": classes}

    return for_each_image(paths, lambda: classify_one, options.json)


def best(scores: Any, class_names: tuple[str, ...], count: int) -> list[dict[str, Any]]:
    """The most probable classes, the best first."""
    order = np.argsort(-scores, kind="stable")[:count]
    return [{"label": class_names[k], "probability": float(scores[k])} for k in order]
