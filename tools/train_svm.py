"""Train a detector on cached features.

python tools/train_svm.py CONFIG (--voc ROOT --split train | --coco JSON) --cache DIR --output MODEL
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from data.check import load_checked
from detector.config import load_config
from detector.console import Parser, add_data_options, data_source, precomputed_boxes, progress, run
from detector.image import picture_size


def parser() -> Parser:
    parser = Parser(description="Train SVMs and box regressors on cached features; what the cache lacks is computed.")
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a recipe, such as configs/default.yaml")
    add_data_options(parser)
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="folder of the cached files")
    parser.add_argument("--output", type=Path, required=True, metavar="MODEL", help="the model file to write")
    return parser


def main() -> int:
    options = parser().parse_args()
    config = load_config(options.config)
    dataset = load_checked(**data_source(options), class_names=options.classes, picture_size=picture_size)
    if options.output.is_dir():
        raise ValueError(f"{options.output}: is a folder, but the model is to be a file")
    from detector.training import build_cache, train

    start = time.monotonic()
    cache = build_cache(config, options.cache, options.device, precomputed_boxes(options.proposals))
    detector = train(config, dataset, dataset.class_names, cache, progress)
    record = {
        "trained_on": dataset.name,
        "images": len(dataset),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.monotonic() - start),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    replace(detector, record=record).save(options.output)
    print(f"{options.output}: {len(dataset.class_names)} classes from {len(dataset)} pictures of {dataset.name}")
    return 0


if __name__ == "__main__":
    run(main)
