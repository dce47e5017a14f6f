"""Train a detector by a recipe and measure it: mAP with its error, time of training, time of a detection."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.own_data import fill_timed
from benchmarks.rcnn_methods import METHODS, RCNN, Comparison
from detector.cli.console import progress
from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.detections import Detections
from detector.evaluation.held_out import HeldOutResult, measure_held_out
from detector.features.cache import FeatureCache, fill_cache
from detector.images.files import read_image
from detector.pipeline import Detector
from detector.training.time_spent import time_spent
from detector.training.train import train

SPP = "SPP, 1 scale"


@dataclass(frozen=True)
class Trained:
    """A trained detector, the cache of its features, and the minutes of wall time that its training took.

    The minutes include the features, also those that were cached, and all starts of a training that was killed. They do
    not include the proposals.
    """

    detector: Detector
    cache: FeatureCache
    minutes: float

    def detections(self, test_set: Dataset) -> list[Detections]:
        """Detect in the images of a set, with features from the cache."""
        return [self.detector.detect_cached(self.cache, each) for each in progress(test_set, "detect")]


def train_method(config: Config, train_set: Dataset, test_set: Dataset, work: Path, crops: bool = False) -> Trained:
    """Train by a recipe, with features in ``work``; with ``crops``, R-CNN's, one convolution per box.

    Killed and called again, it resumes.
    """
    comparison = Comparison(train_set, test_set, work)
    cache = comparison.cache(METHODS[RCNN if crops else SPP], config)
    for each in progress([*train_set, *test_set], "proposals"):
        cache.proposals(each.image_id, each.path)
    # end-to-end training computes its own maps
    own_maps = config.end_to_end.enabled
    filled = 0.0 if own_maps else fill_timed(cache, train_set, config.caches_mirrored_maps, time.monotonic)
    spent = time_spent(config, train_set, cache, False)
    detector = train(config, train_set, train_set.class_names, cache, spent.progress(progress))
    minutes = (filled + spent.finish()) / 60
    if detector.encoder is not cache.encoder:
        cache = detector.cache(work)
    if crops:
        fill_cache(cache, test_set, progress)
    return Trained(detector, cache, minutes)


def seconds_per_image(detector: Detector, test_set: Dataset, count: int) -> float:
    """Return the median seconds of a detection in the first ``count`` images, from the array to the boxes."""
    images = [read_image(each.path) for each in test_set[:count]]
    detector.detect(images[0])  # compiles and allocates
    seconds = []
    for image in progress(images, "times"):
        start = time.perf_counter()
        detector.detect(image)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def precision_of(found: Sequence[Detections], test_set: Dataset) -> HeldOutResult:
    """Return the average precisions (VOC2007, 11 points), with standard errors over images."""
    return measure_held_out(found, test_set, "voc07")
