"""What a training would cost on this machine, from a few images that go through its stages."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from detector.config.detector import Config
from detector.images.files import read_image
from detector.stages import build_encoder, build_proposer

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
