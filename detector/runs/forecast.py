"""What a training would cost on this machine, from a few images that go through its stages."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from detector.build import build_encoder, build_proposer
from detector.config.detector import Config
from detector.images.files import read_image
from detector.runtime.progress import Stage

_PASSES = 4.0  # over all boxes: scaling, mining, its last round, regressors
_BASE_BYTES = 1.2e9  # libraries, network and its work
_SAMPLE_BYTES = 2  # a number of a sample, in half precision
_MOST_SAMPLES_BYTES = 2.5e9
_FIT_SECONDS = 4e-10  # for each number of each sample and class, over all fits
_SAMPLES_AN_IMAGE = 40


@dataclass(frozen=True)
class Forecast:
    """Seconds of caching and of learning, bytes of memory and of disk: an estimate."""

    cache_seconds: float
    learning_seconds: float
    memory_bytes: float
    disk_bytes: float

    def __str__(self) -> str:
        cache, learning = (_duration(seconds) for seconds in (self.cache_seconds, self.learning_seconds))
        memory, disk = self.memory_bytes / 1e9, self.disk_bytes / 1e9
        return (
            f"an estimate, with this machine as busy as now: {cache} for features, {learning} for learning, "
            f"{memory:.1f} GB of memory, {disk:.2f} GB of disk"
        )


def forecast(config: Config, paths: Iterable[Path], n_images: int, n_classes: int, device: str = "cpu") -> Forecast:
    """The cost of training ``n_images`` of ``n_classes`` by a recipe, measured on the few images of ``paths``.

    The first one warms up and does not count where there are more. Raises ValueError where none is given.
    """
    encoder, propose = build_encoder(config.features, device), build_proposer(config.proposals)
    measured = []
    for path in paths:
        image = read_image(path)
        start = _clocks()
        boxes = propose(image)
        maps = encoder.maps(image)
        middle = _clocks()
        weights = np.zeros((encoder.n_features, n_classes), np.float32)
        encoder.pool(maps, encoder.regions(maps, boxes)) @ weights
        end = _clocks()
        size = len(save({str(i): each.astype(np.float16) for i, each in enumerate(maps.maps)})) + boxes.nbytes
        measured.append((min(middle - start), min(end - middle), float(size)))
    if not measured:
        raise ValueError("there is no image to measure the training with")
    first, pooling, size = np.median(measured[1:] or measured, axis=0).tolist()
    n_seen = n_images * (2 if config.learns_from_mirrored_maps else 1)
    n_samples = min(
        n_seen * _SAMPLES_AN_IMAGE,
        config.svm.max_samples or np.inf,
        _MOST_SAMPLES_BYTES / _SAMPLE_BYTES / encoder.n_features,
    )
    fitting = _FIT_SECONDS * n_samples * encoder.n_features * n_classes
    return Forecast(
        cache_seconds=n_seen * first,
        learning_seconds=n_seen * pooling * _PASSES + fitting,
        memory_bytes=_BASE_BYTES + n_samples * encoder.n_features * _SAMPLE_BYTES,
        disk_bytes=n_seen * size,
    )


def _clocks() -> NDArray[np.float64]:
    """Time that went by, and time of processors: the lesser difference is that of a machine without other work."""
    return np.array([time.perf_counter(), time.process_time()])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# Seconds an image, measured with the recipe `default` on two cores; of a whole loop over 20 classes for regressors.
# Only their proportions count: how fast this machine is shows while it works.
_FEATURES = 0.22
_POSITIVES = 0.02
_MINING = 0.13
_REGRESSORS = 0.03
_DETECTION = 0.3


class Training(NamedTuple):
    """How many images a training learns from, of how many of them features are missing, and of how many classes."""

    n_images: int
    n_missing: int
    n_classes: int


def training_plan(
    config: Config, trainings: Sequence[Training], n_missing_held_out: int, n_held_out: int
) -> list[Stage]:
    """The loops of trainings one after another, each with a detection in held-out images, if there are any.

    The first one is calibrated, where the recipe says so, and the others never.
    Nothing is foretold of fine-tuning, whose time depends on more than images: then the plan is empty.
    """
    if config.fine_tuning.enabled:
        return []
    plan = []
    for number, training in enumerate(trainings):
        plan += [Stage("features", training.n_missing, _FEATURES), *_learning(config, training)]
        if config.calibration.enabled and not number:
            plan += _calibration(config, training)
        if n_held_out:
            # what the first training has cached is there for the others
            missing = 0 if number else n_missing_held_out
            plan += [Stage("features", missing, _FEATURES), Stage("detect", n_held_out, _DETECTION)]
    return plan


def _calibration(config: Config, training: Training) -> list[Stage]:
    """As `detector.training.calibration` goes: SVMs that learn without a part of the images, and detection in that."""
    n_images, settings = training.n_images, config.calibration
    n_parts = min(round(1 / settings.held_out), n_images)
    taken = 1 if n_images >= settings.cross_validate_below else n_parts
    n_part = n_images // n_parts
    plan = []
    for number in range(1, taken + 1):
        plan += [Stage("positives", n_images - n_part, _POSITIVES), Stage("mining", n_images - n_part, _MINING)]
        plan.append(Stage(f"calibration {number} of {taken}", n_part, _DETECTION))
    return plan


def _learning(config: Config, training: Training) -> list[Stage]:
    n_images, n_classes = training.n_images, training.n_classes
    stages = [Stage("positives", n_images, _POSITIVES), Stage("mining", n_images, _MINING)]
    if config.regression.enabled:
        stages.append(Stage("box regressors", n_classes, _REGRESSORS * n_images / n_classes))
    return stages
