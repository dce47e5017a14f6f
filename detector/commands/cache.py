"""Compute feature maps and proposals of a data set once.

python tools/cache_features.py CONFIG (--voc ROOT --split train | --coco JSON) --cache DIR
python tools/cache_features.py --cache DIR --cache-info
"""

from __future__ import annotations

from pathlib import Path

from detector.commands.console import Parser, command, progress
from detector.commands.options import add_data_options, add_network_options, add_recipe, load_data, precomputed_boxes
from detector.config.detector import load_config


def parser() -> Parser:
    parser = Parser(description="Compute and keep the feature maps and proposals of a data set; resumable.")
    add_recipe(parser, required=False)
    add_data_options(parser, required=False)
    add_network_options(parser)
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="folder of the cached files")
    parser.add_argument("--cache-info", action="store_true", help="only tell what is in the cache")
    return parser


@command
def main() -> int:
    options = parser().parse_args()
    if options.cache_info:
        print_info(options.cache)
        return 0
    if options.config is None:
        raise ValueError("a CONFIG is needed, such as default")
    config = load_config(options.config, options.weights, options.tuned)
    dataset = load_data(options)
    from detector.features.feature_cache import fill_cache
    from detector.stages import build_cache

    cache = build_cache(config, options.cache, options.device, precomputed_boxes(options.proposals))
    readable = fill_cache(cache, dataset, progress)
    if config.fine_tuning.enabled and config.fine_tuning.flips:
        readable = fill_cache(cache, readable, progress, mirrored=True)
    print(f"{len(readable)} images of {dataset.name}: {cache.maps_directory}, {cache.proposals_directory}")
    return 0


def print_info(directory: Path) -> None:
    from detector.features.feature_cache import cache_folders

    total = 0
    for folder in cache_folders(directory):
        settings = ", ".join(f"{name} {value}" for name, value in folder.settings.items())
        print(f"{folder.path.name}: {folder.n_images} images, {folder.n_bytes / 1e6:.1f} MB ({settings})")
        total += folder.n_bytes
    print(f"{directory}: {total / 1e6:.1f} MB")
