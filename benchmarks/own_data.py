"""Accuracy and time of training on small data sets of one's own, by the recipe of own data and by others.

Each folder of --sets is a data set with the splits train and test. Random images of train are drawn --draws times, and
average precision is measured on all of test: AP50, by the area under the curve. Features are computed once per data
set; their share of the time is counted for each training. Numbers in --results are not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.machine import machine
from detector.build import build_cache
from detector.cli.console import progress
from detector.cli.outputs import OutputFile, begins, cache_folder
from detector.config.detector import Config, load_config
from detector.datasets.dataset import Dataset
from detector.datasets.loading import DataSource, load_dataset
from detector.evaluation.held_out import measure_held_out
from detector.features.cache import FeatureCache, fill_cache
from detector.runtime.files import write_json
from detector.training.adaptation import adapt_recipe
from detector.training.train import train

SETS = Path("data/sets")
_FEW = 5  # objects of a class in all images, up to which a draw may lack it


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sets", type=Path, default=SETS, metavar="DIR", help=f"folder of data sets (default: {SETS})")
    parser.add_argument(
        "--images", nargs="+", default=["10", "20", "50", "all"], metavar="N", help="default: 10 20 50 all"
    )
    parser.add_argument("--draws", type=int, default=5, metavar="N", help="draws of each number of images (default: 5)")
    parser.add_argument(
        "--recipes", nargs="+", default=["default", "imagenet"], metavar="RECIPE", help="default: default imagenet"
    )
    parser.add_argument("--cache", type=cache_folder, required=True, metavar="DIR", help="cache directory")
    parser.add_argument(
        "--results", type=OutputFile(begins(rb"\{")), required=True, metavar="FILE", help="file to keep the numbers in"
    )


@dataclass(frozen=True)
class Measured:
    """AP50 as a fraction of 1, its standard error over test images, and processor minutes of one training."""

    precision: float
    error: float
    minutes: float


def measure(options: argparse.Namespace) -> int:
    folders = sorted(path for path in options.sets.iterdir() if path.is_dir()) if options.sets.is_dir() else []
    if not folders:
        print(f"SKIPPED: there are no data sets in {options.sets}; give their folder with --sets")
        return 0
    known = json.loads(options.results.read_text(encoding="utf-8")) if options.results.exists() else {}
    print(machine())
    print("| set | images | recipe | AP50 | standard error | CPU minutes |\n| --- | ---: | --- | ---: | ---: | ---: |")
    for folder in folders:
        whole, test = (load_dataset(DataSource(folder, split), report=lambda _: None) for split in ("train", "test"))
        for count in options.images:
            n_images = len(whole) if count == "all" else int(count)
            if n_images > len(whole):
                continue
            for recipe in options.recipes:
                results = []
                for seed in range(1 if count == "all" else options.draws):
                    key = f"{folder.name} {count} {recipe} {seed}"
                    if key not in known:
                        subset = draw(whole, n_images, seed)
                        known[key] = vars(_measure(load_config(recipe), subset, test, options.cache / folder.name))
                        write_json(options.results, known)
                    results.append(Measured(**known[key]))
                print(f"| {folder.name} | {n_images} | {recipe} | {_row(results)} |", flush=True)
    return 0


def draw(dataset: Dataset, n_images: int, seed: int) -> Dataset:
    """Return random images with an object of every class that has more than a few, and only the classes in them."""
    counts = np.bincount(np.concatenate([each.labels for each in dataset]), minlength=len(dataset.class_names))
    needed = set(np.flatnonzero(counts > _FEW).tolist())
    random = np.random.default_rng(seed)
    while True:
        rows = np.sort(random.permutation(len(dataset))[:n_images]).tolist()
        there = {label for row in rows for label in dataset[row].labels.tolist()}
        if needed <= there or n_images == len(dataset):
            break
    kept = sorted(there)
    labels = np.searchsorted(kept, np.arange(len(dataset.class_names)))
    annotations = tuple(replace(dataset[row], labels=labels[dataset[row].labels]) for row in rows)
    return Dataset(annotations, tuple(dataset.class_names[label] for label in kept), dataset.name)


def _measure(config: Config, images: Dataset, test: Dataset, directory: Path) -> Measured:
    start = time.process_time()
    config = adapt_recipe(config, images).config
    adapted = time.process_time() - start
    cache = build_cache(config, directory)
    features = fill_timed(cache, images, bool(config.svm.flips))
    start = time.process_time()
    detector = train(config, images, images.class_names, cache, progress)
    trained = time.process_time() - start
    fill_cache(cache, test, progress)
    found = []
    labels = np.array([test.class_names.index(name) for name in images.class_names])
    for each in progress(test, "detect"):
        here = detector.detect_cached(cache, each)
        found.append(replace(here, labels=labels[here.labels], class_names=test.class_names))
    result = measure_held_out(found, test, "area")
    return Measured(result.mAP, result.mAP_error, (adapted + features + trained) / 60)


def fill_timed(
    cache: FeatureCache, images: Dataset, mirrored: bool, clock: Callable[[], float] = time.process_time
) -> float:
    """Fill the cache; return the seconds that it takes for all images, also those that were there.

    ``clock`` returns the seconds to count, by default those of the processor.
    """
    seconds = 0.0
    for each in (False, True) if mirrored else (False,):
        missing = sum(not cache.is_complete(image.image_id, each) for image in images)
        start = clock()
        fill_cache(cache, images, progress, mirrored=each)
        taken = clock() - start
        path = cache.mirrored_maps_directory if each else cache.maps_directory
        note = path / "seconds_per_image.json"
        if missing:
            write_json(note, taken / missing)
        seconds += len(images) * json.loads(note.read_text(encoding="utf-8"))
    return seconds


def _row(results: Sequence[Measured]) -> str:
    values = np.array([each.precision for each in results])
    minutes = float(np.mean([each.minutes for each in results]))
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else results[0].error
    return f"{100 * values.mean():.1f} | {100 * error:.1f} | {minutes:.1f}"
