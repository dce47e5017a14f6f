"""Objects labeled to reach a mean average precision: images selected by `spp data next` against random ones.

A pool of images is drawn from a list, with the objects of a few classes. Labels are revealed round by round; a detector
trained on them is tested on other images. Numbers in --results are not measured again.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from benchmarks.subsets import Quick, Results, add_subset_options, draw_subsets, mean_precision
from detector.cli.console import progress
from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.datasets.loading import load_voc
from detector.datasets.readers.voc import VOC_CLASSES
from detector.features.cache import FeatureCache, fill_cache
from detector.pipeline import Detector
from detector.runs.next_images import image_features, select, uncertainty
from detector.training.train import train as train_detector

RANDOM, NEXT = "random", "next"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_subset_options(parser)
    parser.add_argument(
        "--classes", nargs="+", default=["bus", "cow", "tvmonitor"], metavar="NAME", help="default: bus cow tvmonitor"
    )
    parser.add_argument("--pool", type=int, default=150, metavar="N", help="images to choose from (default: 150)")
    parser.add_argument("--step", type=int, default=20, metavar="N", help="images per round (default: 20)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="random first rounds (default: 3)")


@dataclass(frozen=True)
class Simulation:
    """Pool, test images, the features of both, the recipe, the number of images per round, and a random seed."""

    pool: Dataset
    test: Dataset
    cache: FeatureCache
    config: Config
    step: int
    seed: int

    def run(self, strategy: str, n_rounds: int) -> list[list[float]]:
        """Return labeled objects and mAP, round by round; the first round is random for all strategies."""
        order = np.random.default_rng(self.seed).permutation(len(self.pool)).tolist()
        labeled: list[int] = []
        points: list[list[float]] = []
        for _ in range(n_rounds):
            left = [row for row in order if row not in labeled]
            labeled += left[: self.step] if strategy == RANDOM or not labeled else self.select_next(left, labeled)
            detector = self.learn(labeled)
            found = [detector.detect_cached(self.cache, each) for each in progress(self.test, "detect")]
            n_objects = sum(len(self.pool[row].labels) for row in labeled)
            points.append([n_objects, mean_precision(found, self.test)])
        return points

    def learn(self, rows: list[int]) -> Detector:
        """Return a detector trained on images of the pool."""
        learned = replace(self.pool, annotations=tuple(self.pool[row] for row in rows))
        return train_detector(self.config, learned, learned.class_names, self.cache, progress)

    def select_next(self, left: list[int], labeled: list[int]) -> list[int]:
        """Return the rows of the next round, as `spp data next` selects them."""
        detector = self.learn(labeled)
        images = [self.pool[row] for row in left]
        uncertainties = [uncertainty(detector.detect_cached(self.cache, each)) for each in progress(images, "next")]
        features = [image_features(self.cache.maps(each.image_id, each.path)) for each in images]
        return [left[row] for row in select(np.array(uncertainties), np.stack(features), self.step)]


def measure(options: argparse.Namespace) -> int:
    dataset = load_voc(options.voc, options.split, VOC_CLASSES)
    quick = Quick(options.config, options.cache)
    config = quick.config({"calibration": {"cross_validate_below": 0}})
    results = Results(options.results)
    print(f"{machine()}\n{', '.join(options.classes)} of {dataset.name}: pool {options.pool}, tested on {options.test}")
    points: dict[str, list[list[list[float]]]] = {RANDOM: [], NEXT: []}
    pool, test = draw_subsets(dataset, options.classes, options.pool, options.test, 0)
    cache = quick.cache(config, [*pool, *test])
    fill_cache(cache, [*pool, *test], progress)
    for seed in range(options.seeds):
        for strategy, of_seeds in points.items():
            key = f"{' '.join(options.classes)} | {len(pool)} {len(test)} | {options.step} | {strategy} | {seed}"
            if len(results.numbers.get(key, [])) < options.rounds:
                simulation = Simulation(pool, test, cache, config, options.step, seed)
                results.keep(key, simulation.run(strategy, options.rounds))
            of_seeds.append(results.numbers[key][: options.rounds])
    print_table({name: np.array(each) for name, each in points.items()}, options.step)
    return 0


def print_table(points: dict[str, NDArray[np.float64]], step: int) -> None:
    """Print means over the draws ``(S, rounds, 2)``, and the objects each strategy needs for the mAP of random ones."""
    print("| images | " + " | ".join(f"{name}: objects, mAP" for name in points) + " |")
    print("| --- " * (len(points) + 1) + "|")
    n_rounds = next(iter(points.values())).shape[1]
    for number in range(n_rounds):
        means = (each[:, number].mean(axis=0) for each in points.values())
        cells = (f"{objects:.0f}, {100 * precision:.1f}" for objects, precision in means)
        print(f"| {step * (number + 1)} | " + " | ".join(cells) + " |")
    wanted = points[RANDOM][:, -1, 1].mean()
    for name, each in points.items():
        print(f"{name}: {needed(each.mean(axis=0), wanted)} objects for a mAP of {100 * wanted:.1f}")
    last = points[NEXT][:, -1, 1] - points[RANDOM][:, -1, 1]
    error = last.std(ddof=1) / np.sqrt(len(last)) if len(last) > 1 else 0.0
    print(f"{NEXT} minus {RANDOM} after the last round: {100 * last.mean():+.1f} ± {100 * error:.1f}")


def needed(curve: NDArray[np.float64], wanted: float) -> str:
    """Return the objects ``curve[:, 0]`` at which the curve reaches a mAP ``curve[:, 1]``, in words."""
    for (objects, precision), (more, better) in pairwise(curve.tolist()):
        if precision >= wanted:
            return f"{objects:.0f} or fewer"
        if better >= wanted:
            return f"{objects + (more - objects) * (wanted - precision) / (better - precision):.0f}"
    return f"more than {curve[-1, 0]:.0f}"
