"""Compute the feature maps and proposals of a data set once, list what is cached, and free its space.

spp cache CONFIG (--data PATH | --voc ROOT --split train | --coco JSON) --cache DIR
spp cache --cache DIR --cache-info
spp cache --clean [--older-than DAYS] [--cache DIR]
"""

from __future__ import annotations

from pathlib import Path

from detector.cli.console import Parser, progress
from detector.cli.data_options import add_data_options, load_data, precomputed_boxes
from detector.cli.options import add_engine_options, add_network_options, add_recipe, cache_workers
from detector.cli.outputs import cache_folder
from detector.config.detector import load_config
from detector.runtime.files import cache_root


def parser() -> Parser:
    parser = Parser(description="Compute and store the feature maps and proposals of a data set; resumable.")
    add_recipe(parser, required=False)
    add_data_options(parser, required=False)
    add_network_options(parser)
    parser.add_argument("--cache", type=cache_folder, metavar="DIR", help="folder of the cached files")
    add_engine_options(parser, caches=True)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--cache-info", action="store_true", help="only list what is in the cache")
    action.add_argument(
        "--clean", action="store_true", help="delete it; without --cache, everything that trainings cached by default"
    )
    parser.add_argument(
        "--older-than", type=float, metavar="DAYS", help="of --clean: only caches not written to for DAYS"
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
    config = load_config(options.config, options.weights, options.runtime)
    dataset = load_data(options)
    from detector.build import build_cache
    from detector.features.cache import fill_cache, fill_proposals
    from detector.training.adaptation import adapt_recipe

    # the settings that a training on these images chooses
    config = adapt_recipe(config, dataset, progress, precomputed_boxes(options.proposals)).config
    cache = build_cache(config, options.cache, options.device, options.proposals)
    if config.end_to_end.enabled:  # maps of the trained backbone follow in the training
        readable = fill_proposals(cache, dataset, progress)
        print(f"{len(readable)} images of {dataset.name}: {cache.proposals_directory}")
        return 0
    workers = cache_workers(options, config, options.cache)
    readable = fill_cache(cache, dataset, progress, workers=workers)
    if config.caches_mirrored_maps:
        readable = fill_cache(cache, readable, progress, mirrored=True, workers=workers)
    print(f"{len(readable)} images of {dataset.name}: {cache.maps_directory}, {cache.proposals_directory}")
    return 0


def print_info(directory: Path) -> None:
    """Print the folders of a cache: images, size and settings of each."""
    from detector.features.cache import cache_folders

    total = 0
    for folder in cache_folders(directory):
        settings = ", ".join(f"{name} {value}" for name, value in folder.settings.items())
        print(f"{folder.path.name}: {folder.n_images} images, {folder.n_bytes / 1e6:.1f} MB ({settings})")
        total += folder.n_bytes
    print(f"{directory}: {total / 1e6:.1f} MB")


def clean(directory: Path, older_than_days: float) -> None:
    """Delete what is in a cache, or in the caches below ``directory``, and print what it was."""
    from detector.features.cache_cleaning import clean_cache

    # nothing was cached by default yet
    missing = directory == cache_root() and not directory.exists()
    freed = [] if missing else clean_cache(directory, older_than_days)
    for each in freed:
        print(f"{each.path}: {each.n_files} files, {each.n_bytes / 1e6:.1f} MB")
    print(f"{directory}: {sum(each.n_bytes for each in freed) / 1e6:.1f} MB freed")
