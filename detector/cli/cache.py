"""Compute feature maps and proposals of a data set once, look at them, and free their space.

python tools/cache_features.py CONFIG (--voc ROOT --split train | --coco JSON) --cache DIR
python tools/cache_features.py --cache DIR --cache-info
python tools/cache_features.py --clean [--older-than DAYS] [--cache DIR]
"""

from __future__ import annotations

from pathlib import Path

from detector.cli.console import Parser, progress
from detector.cli.engines import CacheBuilding, add_engine_options, where_of
from detector.cli.options import add_data_options, add_network_options, add_recipe, load_data
from detector.cli.outputs import cache_folder
from detector.config.detector import load_config
from detector.runtime.files import cache_root


def parser() -> Parser:
    parser = Parser(description="Compute and keep the feature maps and proposals of a data set; resumable.")
    add_recipe(parser, required=False)
    add_data_options(parser, required=False)
    add_network_options(parser)
    parser.add_argument("--cache", type=cache_folder, metavar="DIR", help="folder of the cached files")
    add_engine_options(parser, caches=True)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--cache-info", action="store_true", help="only tell what is in the cache")
    action.add_argument(
        "--clean", action="store_true", help="delete it; without --cache, all that trainings keep by themselves"
    )
    parser.add_argument(
        "--older-than", type=float, metavar="DAYS", help="of --clean: only what was not written to for so many days"
    )
    return parser


def main() -> int:
    options = parser().parse_args()
    if options.older_than is not None and not (options.clean and options.older_than >= 0):
        raise ValueError("--older-than goes with --clean, and takes a number of days")
    if options.clean:
        clean(options.cache or cache_root(), options.older_than or 0)
        return 0
    if options.cache is None:
        raise ValueError("--cache is needed: the folder of the cached files")
    if options.cache_info:
        print_info(options.cache)
        return 0
    if options.config is None:
        raise ValueError("a CONFIG is needed, such as default")
    config = load_config(options.config, options.weights, options.tuned, options.runtime)
    dataset = load_data(options)
    config = config.for_images(len(dataset))
    from detector.features.cache import fill_cache

    build = CacheBuilding(config, options.cache, options.device, options.proposals)
    cache = build()
    where = where_of(options, build)
    readable = fill_cache(cache, dataset, progress, where=where)
    if config.learns_from_mirrored_maps:
        readable = fill_cache(cache, readable, progress, mirrored=True, where=where)
    print(f"{len(readable)} images of {dataset.name}: {cache.maps_directory}, {cache.proposals_directory}")
    return 0


def print_info(directory: Path) -> None:
    from detector.features.cache import cache_folders

    total = 0
    for folder in cache_folders(directory):
        settings = ", ".join(f"{name} {value}" for name, value in folder.settings.items())
        print(f"{folder.path.name}: {folder.n_images} images, {folder.n_bytes / 1e6:.1f} MB ({settings})")
        total += folder.n_bytes
    print(f"{directory}: {total / 1e6:.1f} MB")


def clean(directory: Path, older_than_days: float) -> None:
    """Delete what is in a cache, or in the caches below ``directory``, and tell what it was."""
    from detector.features.cache_cleaning import clean_cache

    # where no training kept anything yet, there is nothing to free
    missing = directory == cache_root() and not directory.exists()
    freed = [] if missing else clean_cache(directory, older_than_days)
    for each in freed:
        print(f"{each.path}: {each.n_files} files, {each.n_bytes / 1e6:.1f} MB")
    print(f"{directory}: {sum(each.n_bytes for each in freed) / 1e6:.1f} MB freed")
