"""The regression stage of a training: boxes near objects of each class, and a ridge regressor for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, encode_deltas
from detector.config.detector import RegressionConfig
from detector.features.cache_filling import Where
from detector.features.encoder import Features
from detector.features.feature_cache import FeatureCache
from detector.heads.box_regressors import BoxRegressors
from detector.runtime.map_images import Failure, InTurn, map_images
from detector.runtime.progress import Progress, without_progress
from detector.training.ridge_regression import assign_boxes, fit_regressor
from detector.training.training_set import TrainingSet


def train_regressors(
    images: TrainingSet,
    config: RegressionConfig,
    seed: int,
    progress: Progress = without_progress,
    where: Where | None = None,
) -> BoxRegressors:
    """Fit one box regressor a class on boxes that overlap an object of it by more than ``config.min_iou``.

    At most ``config.max_samples`` boxes a class, drawn at random, so that memory is bounded by that number of
    features. Features are pooled class by class, by ``where``, if not by this process; a class without a box moves
    nothing. Raises ValueError where they cannot be.
    """
    examples = _regression_examples(images, config.min_iou)
    rng = np.random.default_rng(seed)
    chosen = []
    for label in range(images.n_classes):
        rows = np.flatnonzero(examples.labels == label)
        chosen.append(np.sort(rng.permutation(rows)[: config.max_samples]))
    where = where or Where(InTurn(), lambda: images.cache)
    without_cache: Any = replace(images, cache=None)  # type: ignore[arg-type]
    pooling = Pooling(without_cache, where.build)
    pooled = map_images(pooling, (part for rows in chosen for part in _parts(images, examples, rows)), where.engine)
    n_features = images.n_features
    weights = np.zeros((images.n_classes, n_features, 4), np.float32)
    biases = np.zeros((images.n_classes, 4), np.float32)
    for label in progress(range(images.n_classes), "box regressors"):
        rows = chosen[label]
        if not len(rows):
            continue
        features = np.empty((len(rows), n_features), np.float32)
        # rows ascend, and so do their images
        end = 0
        while end < len(rows):
            part, found = next(pooled)
            if isinstance(found, Failure):
                raise ValueError(found.message)
            features[end : (end := end + len(part.boxes))] = found
        deltas = encode_deltas(examples.boxes[rows], examples.objects[rows])
        fitted = fit_regressor(features, deltas, config.regularisation)
        weights[label], biases[label] = images.unscaled(*fitted)
    return BoxRegressors(weights, biases)


@dataclass(frozen=True)
class Part:
    """Boxes ``(n, 4)`` of an image, by its index, to pool."""

    index: int
    boxes: Boxes
    path: Path


@dataclass(frozen=True)
class Pooling:
    """Makes what pools boxes, to ``(n, D)`` float32; ``images`` come without a cache."""

    images: TrainingSet
    build: Callable[[], FeatureCache]

    def __call__(self) -> Callable[[Part], Features]:
        """Build the cache."""
        images = replace(self.images, cache=self.build())
        return lambda part: images.features(part.index, part.boxes)


@dataclass(frozen=True)
class _Examples:
    """Boxes ``(n, 4)``, the objects ``(n, 4)`` to move them to, and the image ``(n,)`` and label ``(n,)`` of each."""

    boxes: Boxes
    objects: Boxes
    images: NDArray[np.int64]
    labels: NDArray[np.int64]


def _regression_examples(images: TrainingSet, min_iou: float) -> _Examples:
    parts: list[tuple[Boxes, Boxes, NDArray[np.int64], NDArray[np.int64]]] = []
    for index, annotation in enumerate(images.annotations):
        boxes, overlaps = images.labelled_boxes(index)
        rows, objects = assign_boxes(overlaps, annotation.labels, min_iou)
        parts.append((boxes[rows], annotation.boxes[objects], np.full(len(rows), index), annotation.labels[objects]))
    return _Examples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _parts(images: TrainingSet, examples: _Examples, rows: NDArray[np.int64]) -> Iterator[Part]:
    """Examples by ascending rows, an image after another."""
    for image in np.unique(examples.images[rows]).tolist():
        here = rows[examples.images[rows] == image]
        yield Part(image, examples.boxes[here], images.annotations[image].path)
