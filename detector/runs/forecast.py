"""Forecast a training: the loops ahead with their times, for progress; its cost on this machine, before it starts.

The times were measured with the recipe `default` and 20 classes on two cores. Their proportions count: how fast this
machine is shows while it works or, before that, on a few images.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from detector.build import build_encoder, build_proposer
from detector.config.detector import Config
from detector.images.files import read_image
from detector.runtime.progress import Task
from detector.training.background import Background
from detector.training.proposal_filter import IMAGES_AT_ONCE

# seconds per image
_FEATURES = 0.22
_POSITIVES = 0.02
_MINING = 0.13
_REGRESSORS = 0.03  # for all classes together
_FILTERED = 0.02  # of those that the proposal filter is trained on
_DETECTION = 0.3
_STEP = 1.3  # of end-to-end training, for its images together
_SCORING = 0.04  # pool and score all boxes once: what `forecast` measures

_BASE_BYTES = 1.2e9  # libraries, network and its buffers
_SAMPLE_BYTES = 2  # per number of a sample, in half precision
_MAX_SAMPLES_BYTES = 2.5e9
_SAMPLES_PER_IMAGE = 40


class TrainingSize(NamedTuple):
    """Numbers of images to train on, of those without cached features, of classes, and of background images."""

    n_images: int
    n_missing: int
    n_classes: int
    n_background: int = 0


def training_plan(
    config: Config, trainings: Sequence[TrainingSize], n_missing_held_out: int, n_held_out: int
) -> list[Task]:
    """Return the loops of trainings one after another, each followed by detection in held-out images, if there are any.

    The first training is calibrated, where the recipe says so; the others never are. The plan of a recipe with
    fine-tuning is empty: its time depends on more than images.
    """
    if config.fine_tuning.enabled:
        return []
    plan = []
    for number, size in enumerate(trainings):
        plan.append(Task("features", size.n_missing, _FEATURES))
        if config.caches_mirrored_maps:
            plan.append(Task("features of mirror images", size.n_missing, _FEATURES))
        plan += _svm_tasks(config, size, calibrated=not number)
        if n_held_out:
            # the first training has cached the features for the others
            missing = 0 if number else n_missing_held_out
            plan += [Task("features", missing, _FEATURES), Task("detect", n_held_out, _DETECTION)]
    return plan


def fine_tuning_plan(config: Config, size: TrainingSize) -> list[Task]:
    """Return the loops of an end-to-end training by a recipe, and of SVMs on pooled features and then on fc7."""
    tasks = [_end_to_end_task(config, size.n_images)]
    one_part = config.calibration.model_copy(update={"cross_validate_below": 0})
    config = config.model_copy(update={"calibration": one_part})
    # background belongs to the backbone that was not fine-tuned
    svms = _svm_tasks(config, size._replace(n_background=0), calibrated=True)
    for missing in (size.n_images, 0):
        tasks.append(Task("features", missing, _FEATURES))
        if config.caches_mirrored_maps:
            tasks.append(Task("features of mirror images", missing, _FEATURES))
        tasks += svms
    return tasks


def _end_to_end_task(config: Config, n_images: int) -> Task:
    from detector.training.end_to_end.training import STEPS_PER_ROUND, loop_title

    n_rounds = ceil(config.end_to_end.n_steps(n_images) / STEPS_PER_ROUND)
    return Task(loop_title(config.end_to_end), n_rounds, STEPS_PER_ROUND * _STEP)


def _svm_tasks(config: Config, size: TrainingSize, calibrated: bool) -> list[Task]:
    n_images, n_classes = size.n_images, size.n_classes
    tasks = []
    if config.proposal_filter.enabled:
        n_blocks = ceil(min(n_images, config.proposal_filter.images) / IMAGES_AT_ONCE)
        tasks.append(Task("proposal filter", n_blocks, IMAGES_AT_ONCE * _FILTERED))
    n_seen = n_images * (2 if config.svm.flips else 1) + size.n_background
    tasks += [Task("positives", n_seen, _POSITIVES), Task("mining", n_seen, _MINING)]
    if config.regression.enabled:
        tasks.append(Task("box regressors", n_classes, _REGRESSORS * n_images / n_classes))
    if not (config.calibration.enabled and calibrated):
        return tasks
    # as in `detector.training.calibration`, where scenes or rare classes may reduce the number of parts
    n_parts = min(round(1 / config.calibration.held_out), n_images)
    n_folds = 1 if n_images >= config.calibration.cross_validate_below else n_parts
    for number in range(1, n_folds + 1):
        tasks.append(Task(f"cross-validation {number} of {n_folds}", n_images // n_parts, _DETECTION))
    return tasks


@dataclass(frozen=True)
class Forecast:
    """Estimated seconds of caching and of training, and bytes of memory and of disk."""

    cache_seconds: float
    training_seconds: float
    memory_bytes: float
    disk_bytes: float

    def __str__(self) -> str:
        cache, training = _duration(self.cache_seconds), _duration(self.training_seconds)
        memory, disk = self.memory_bytes / 1e9, self.disk_bytes / 1e9
        return (
            f"an estimate, with this machine as busy as now: {cache} for features, {training} for learning, "
            f"{memory:.1f} GB of memory, {disk:.2f} GB of disk"
        )


def forecast(config: Config, paths: Iterable[Path], n_images: int, n_classes: int, device: str = "cpu") -> Forecast:
    """Forecast the cost of training on ``n_images`` of ``n_classes`` from the time that the images of ``paths`` take.

    The first image warms up and does not count where there are more. Time of fc layers on frozen maps is not included.
    Raises ValueError where there is no image.
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
    features, scoring, size = np.median(measured[1:] or measured, axis=0).tolist()
    n_seen = n_images * (2 if config.caches_mirrored_maps else 1)
    n_samples = min(
        n_seen * _SAMPLES_PER_IMAGE,
        config.svm.max_samples or np.inf,
        _MAX_SAMPLES_BYTES / _SAMPLE_BYTES / encoder.n_features,
    )
    n_background = len(Background.of(encoder, ()).mined) if config.svm.background else 0
    tasks = _svm_tasks(config, TrainingSize(n_images, 0, n_classes, n_background), calibrated=True)
    if config.end_to_end.enabled:
        tasks.append(_end_to_end_task(config, n_images))
    return Forecast(
        cache_seconds=n_seen * features,
        training_seconds=scoring / _SCORING * sum(task.n_items * task.seconds for task in tasks),
        memory_bytes=_BASE_BYTES + n_samples * encoder.n_features * _SAMPLE_BYTES,
        disk_bytes=n_seen * size,
    )


def _clocks() -> NDArray[np.float64]:
    """Return wall time and processor time: the smaller difference is that of a machine without other work."""
    return np.array([time.perf_counter(), time.process_time()])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
