"""Compute feature maps and proposals of a data set once.

python tools/cache_features.py CONFIG (--voc ROOT --split train | --coco JSON) --cache DIR
"""

from __future__ import annotations

from pathlib import Path

from data.check import load_checked
from detector.config import load_config
from detector.console import Parser, add_data_options, data_source, precomputed_boxes, progress, run
from detector.image import picture_size


def parser() -> Parser:
    parser = Parser(description="Compute and keep the feature maps and proposals of a data set; resumable.")
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a recipe, such as configs/default.yaml")
    add_data_options(parser)
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="folder of the cached files")
    return parser


def main() -> int:
    options = parser().parse_args()
    config = load_config(options.config)
    dataset = load_checked(**data_source(options), class_names=options.classes, picture_size=picture_size)
    from detector.training import build_cache, fill_cache

    cache = build_cache(config, options.cache, options.device, precomputed_boxes(options.proposals))
    fill_cache(cache, dataset, progress)
    print(f"{len(dataset)} pictures of {dataset.name}: {cache.maps_directory}, {cache.proposals_directory}")
    return 0


if __name__ == "__main__":
    run(main)
