"""Name and box the objects of photographs: python tools/detect.py IMAGE..."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.commands.console import (
    USAGE_ERROR,
    Parser,
    add_model_options,
    output_file,
    read_or_report,
    report,
    write_json,
)
from detector.runtime.timing import stage, stage_times

if TYPE_CHECKING:
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


def main() -> int:
    options = parser().parse_args()
    if options.max_detections is not None and options.max_detections < 1:
        raise ValueError(f"--max-detections must be at least 1, but is {options.max_detections}")
    from detector.images.files import find_images

    paths = find_images(options.images)
    drawn_names = output_names(paths, options.output)
    detector: Ensemble | None = None
    records, failed = [], 0
    for path, drawn in zip(paths, drawn_names, strict=True):
        if (image := read_or_report(path)) is None:
            failed += 1
            continue
        if detector is None:
            from detector.ensemble import load_ensemble

            detector = load_ensemble(options.model, options.device, options.weights, options.mirror)
        with stage_times() as times:
            try:
                records.append(detect_one(detector, path, image, drawn, options))
            except ValueError as error:  # such as an image too narrow for the network
                report(ValueError(f"{path}: {error}"))
                failed += 1
                continue
        if options.profile:
            spent = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in times.items())
            print(f"{path}: {spent}", file=sys.stderr)
    if options.json is not None:
        write_json(options.json, records)
    return USAGE_ERROR if failed else 0


def detect_one(detector: Ensemble, path: Path, image: Any, drawn: Path, options: Any) -> dict[str, Any]:
    """Detect in one image, print a line a detection, write the drawn copy, and return the record for JSON."""
    from detector.images.drawing import draw_detections
    from detector.images.files import write_image

    found = detector.detect(image, min_score=options.min_score, max_detections=options.max_detections)
    items = found.to_records()
    lines = sys.stderr if str(options.json) == "-" else sys.stdout
    for item in items:
        corners = "\t".join(f"{corner:.1f}" for corner in item["box"])  # type: ignore[union-attr]
        print(f"{path}\t{item['label']}\t{item['score']:.3f}\t{corners}", file=lines)
    drawn.parent.mkdir(parents=True, exist_ok=True)
    with stage("drawing"):
        write_image(drawn, draw_detections(image, found.boxes, found.labels, found.scores, found.class_names))
    print(f"{path}: {len(found)} found, drawn in {drawn}", file=sys.stderr)
    return {"image": str(path), "width": image.shape[1], "height": image.shape[0], "detections": items}


def output_names(paths: list[Path], folder: Path) -> list[Path]:
    """Where each image's drawn copy goes: never twice the same file, and never one of the images."""
    taken = {path.resolve() for path in paths}
    names = []
    for path in paths:
        suffix = (
            path.suffix
            if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
            else ".png"
        )
        candidate, number = folder / f"{path.stem}{suffix}", 1
        while candidate.resolve() in taken:
            number += 1
            candidate = folder / f"{path.stem}_{number}{suffix}"
        taken.add(candidate.resolve())
        names.append(candidate)
    return names
