"""Classify images: spp classify IMAGE... --model MODEL"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO

import numpy as np

from detector.cli.console import Parser, printable
from detector.cli.images import for_each_image
from detector.cli.outputs import check_outputs, output_records
from detector.images.files import find_images


def parser() -> Parser:
    parser = Parser(description="Classify images with a trained classifier.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="images, folders of images, or quoted globs")
    parser.add_argument("--model", type=Path, required=True, help="a model file")
    parser.add_argument(
        "--views",
        choices=("one", "ten", "whole", "multi"),
        help="central crop, ten crops, whole image, or windows at six scales "
        "(default: whole, or one for a model without pyramid)",
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="S",
        help="shorter side in pixels, before cropping (default: the model's)",
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes per image (default: 5)")
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

    classifier = Classifier.load(options.model, options.device)
    classifier.check_views(options.views, options.size)  # otherwise, the error would name an image

    def classify_one(path: Path, image: Any, lines: TextIO) -> dict[str, Any]:
        scores = classifier.scores([image], options.views, options.size)[0]
        classes = best(scores, classifier.class_names, options.top)
        for each in classes:
            print(f"{printable(path)}\t{printable(each['label'])}\t{each['probability']:.3f}", file=lines)
        return {"classes": classes}

    return for_each_image(paths, lambda: classify_one, options.json)


def best(scores: Any, class_names: tuple[str, ...], count: int) -> list[dict[str, Any]]:
    """Return the most probable classes, best first."""
    order = np.argsort(-scores, kind="stable")[:count]
    return [{"label": class_names[k], "probability": float(scores[k])} for k in order]
