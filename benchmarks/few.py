"""Settings of SVMs for 20 to 200 images, on small subsets of a large dataset.

Each set is drawn --seeds times and tested on other images of the same list. A setting's difference to the plain recipe
has the standard error over the draws of all sets. Numbers in --results are not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from benchmarks.subsets import Quick, Results, add_subset_options, draw_subsets, mean_precision
from detector.boxes import Boxes, flip
from detector.cli.console import progress
from detector.config.detector import Config
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.loading import load_voc
from detector.datasets.readers.voc import VOC_CLASSES
from detector.features.cache import FeatureCache, fill_cache
from detector.features.encoder import FeatureMaps
from detector.heads.heads import Heads
from detector.images.files import image_size
from detector.pipeline import Detector
from detector.tiles import Window
from detector.training.box_regression import train_regressors
from detector.training.svm.training import train_svms
from detector.training.training_set import TrainingSet, scaled

SETS = {
    "1 class, 30 images": (("cat",), 30),
    "3 classes, 60 images": (("bus", "cow", "tvmonitor"), 60),
    "5 classes, 150 images": (("aeroplane", "bicycle", "bird", "boat", "sheep"), 150),
}
MIRROR = "@mirror"


@dataclass(frozen=True)
class Setting:
    """Changes of the SVMs: a factor of C, mirrored images, and boxes near objects as further positives.

    near: minimum IoU of these boxes; more than 1 adds none.
    """

    times_c: float = 1
    flips: bool = False
    near: float = 2


AS_IT_IS = "as it is"
SETTINGS = {
    AS_IT_IS: Setting(),
    "C / 10": Setting(times_c=0.1),
    "C / 3": Setting(times_c=1 / 3),
    "C x 3": Setting(times_c=3),
    "C x 10": Setting(times_c=10),
    "mirror images": Setting(flips=True),
    "boxes of IoU 0.7": Setting(near=0.7),
    "mirror images, boxes of IoU 0.7": Setting(flips=True, near=0.7),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    add_subset_options(parser)
    parser.add_argument(
        "--settings", nargs="+", choices=SETTINGS, default=[*SETTINGS], metavar="NAME", help="default: all of them"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="draws of each set (default: 3)")


def measure(options: argparse.Namespace) -> int:
    dataset = load_voc(options.voc, options.split, VOC_CLASSES)
    quick = Quick(options.config, options.cache)
    results = Results(options.results)
    print(f"{machine()}\nsets of {dataset.name}, tested on {options.test} other images", flush=True)
    for seed in range(options.seeds):
        for title, (names, n_train) in SETS.items():
            train, test = draw_subsets(dataset, names, n_train, options.test, seed)
            for name in dict.fromkeys([AS_IT_IS, *options.settings]):
                key = f"{title} | {seed} | {name}"
                if key not in results.numbers:
                    results.keep(key, precision_of(quick, SETTINGS[name], train, test))
    print_table(results, options.settings, options.seeds)
    return 0


def precision_of(quick: Quick, setting: Setting, train: Dataset, test: Dataset) -> float:
    """Return the mAP on one set after training on another."""
    config = quick.config({"svm": {"C": quick.config({}).svm.C * setting.times_c}})
    cache = WithMirrors(**vars(quick.cache(config, [*train, *test])))
    fill_cache(cache, [*train, *test], progress)
    detector = learn(config, setting, train, cache)
    return mean_precision([detector.detect_cached(cache, each) for each in progress(test, "detect")], test)


def learn(config: Config, setting: Setting, train: Dataset, cache: FeatureCache) -> Detector:
    """Return a detector whose SVMs are trained with a setting; box regressors are trained as usual."""
    annotations = [*train, *map(mirrored, train)] if setting.flips else [*train]
    boxes = NearPositives(annotations, len(train.class_names), cache, config.svm.max_negative_iou, near=setting.near)
    images = scaled(boxes, config.svm.mean_norm, config.svm.center, config.svm.seed)
    checkpoint = cache.directory / "few.safetensors"
    checkpoint.unlink(missing_ok=True)  # of another, killed training
    svms = train_svms(images, config.svm, checkpoint, progress).svms
    checkpoint.unlink(missing_ok=True)
    plain = replace(images, annotations=train.annotations)
    regressors = train_regressors(plain, config.regression, config.svm.seed, progress)
    heads = Heads(svms, [regressors], None, config.regression.features)
    return Detector(cache.propose, cache.encoder, heads, train.class_names, config)


@dataclass(frozen=True)
class NearPositives(TrainingSet):
    """Training set where boxes that overlap an object by at least ``near`` are positives, too."""

    near: float = field(kw_only=True)

    def targets(self, overlaps: NDArray[np.float32], object_labels: NDArray[np.int64]) -> NDArray[np.int8]:
        targets = super().targets(overlaps, object_labels)
        targets[overlaps >= self.near] = 1
        return targets


class WithMirrors(FeatureCache):
    """Cache that also holds the mirrored images, by ids of their own; of whole images, without tiles."""

    def maps(self, image_id: str, path: Path, window: Window | None = None) -> FeatureMaps:
        plain = image_id.removesuffix(MIRROR)
        return super().maps(plain, path, window) if plain == image_id else self.mirrored_maps(plain, path, window)

    def proposals(self, image_id: str, path: Path, window: Window | None = None) -> Boxes:
        plain = image_id.removesuffix(MIRROR)
        boxes = super().proposals(plain, path, window)
        return boxes if plain == image_id else flip(boxes, image_size(path)[1])


def mirrored(annotation: Annotation) -> Annotation:
    """Return the annotation of the mirrored image."""
    boxes = flip(annotation.boxes, image_size(annotation.path)[1])
    return replace(annotation, image_id=f"{annotation.image_id}{MIRROR}", boxes=boxes)


def print_table(results: Results, settings: Sequence[str], n_seeds: int) -> None:
    """Print a row per setting: its mAP in each set, and the mean difference to the plain recipe."""

    def numbers(name: str, titles: Sequence[str]) -> NDArray[np.float64]:
        keys = [f"{title} | {seed} | {name}" for title in titles for seed in range(n_seeds)]
        return 100 * np.array([results.numbers[key] for key in keys])

    print(" | ".join(["| SVMs", *SETS, "difference |"]))
    print("| --- " * (len(SETS) + 2) + "|")
    for name in dict.fromkeys([AS_IT_IS, *settings]):
        of_sets = [f"{numbers(name, [title]).mean():.1f}" for title in SETS]
        differences = numbers(name, [*SETS]) - numbers(AS_IT_IS, [*SETS])
        error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else 0.0
        row = "" if name == AS_IT_IS else f"{differences.mean():+.1f} ± {error:.1f}"
        print(" | ".join([f"| {name}", *of_sets, f"{row} |"]))
