"""Compute feature maps and proposals of a data set once.

python tools/cache_features.py CONFIG --voc ROOT --split train --cache DIR
"""

from __future__ import annotations

from pathlib import Path

from data.voc import load_voc
from detector.config import load_config
from detector.console import Parser, progress, run


def parser() -> Parser:
    parser = Parser(description="Compute and keep the feature maps and proposals of a data set; resumable.")
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a recipe, such as configs/default.yaml")
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as train")
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="folder of the cached files")
    parser.add_argument("--device", default="cpu", help="torch device of the network (default: cpu)")
    return parser


def main() -> int:
    options = parser().parse_args()
    config = load_config(options.config)
    dataset = load_voc(options.voc, options.split)
    from detector.training import build_cache, fill_cache

    cache = build_cache(config, options.cache, options.device)
    fill_cache(cache, dataset, progress)
    print(f"{len(dataset)} pictures of {dataset.name}: {cache.maps_directory}, {cache.proposals_directory}")
    return 0


if __name__ == "__main__":
    run(main)
