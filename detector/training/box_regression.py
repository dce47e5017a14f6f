"""Train box regressors: one ridge regression per class, on boxes near its objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, encode_deltas
from detector.config.detector import RegressionConfig
from detector.features.cache import CacheWorkers, FeatureCache
from detector.features.encoder import Features
from detector.heads.linear import BoxRegressors
from detector.parallel.map_images import Failure, Sequential, map_images
from detector.runtime.optional import optional
from detector.runtime.progress import Progress, no_progress
from detector.training.training_set import TrainingSet

# at the top, so that a missing package ends training before any work
linalg = optional("scipy.linalg", "train")


def train_regressors(
    images: TrainingSet,
    config: RegressionConfig,
    seed: int,
    progress: Progress = no_progress,
    workers: CacheWorkers | None = None,
) -> BoxRegressors:
    """Fit one box regressor per class on boxes that overlap an object of it by more than ``config.min_iou``.

    At most ``config.max_samples`` random boxes per class bound the memory. Features are pooled class by class, in the
    ``workers`` or in this process. A class without a box gets zero deltas. Raises ValueError for an image that
    cannot be read.
    """
    examples = _regression_examples(images, config.min_iou)
    rng = np.random.default_rng(seed)
    sampled = []
    for label in range(images.n_classes):
        rows = np.flatnonzero(examples.labels == label)
        sampled.append(np.sort(rng.permutation(rows)[: config.max_samples]))
    workers = workers or CacheWorkers(Sequential(), lambda: images.cache)
    pooling = _PoolingFactory(images.without_cache(), workers.build)
    pooled = map_images(pooling, (part for rows in sampled for part in _parts(images, examples, rows)), workers.engine)
    n_features = images.n_features
    weights = np.zeros((images.n_classes, n_features, 4), np.float32)
    biases = np.zeros((images.n_classes, 4), np.float32)
    for label in progress(range(images.n_classes), "box regressors"):
        rows = sampled[label]
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
        fitted = fit_regressor(features, deltas, config.regularization)
        weights[label], biases[label] = images.unscaled(*fitted)
    return BoxRegressors(weights, biases)


def assign_boxes(
    overlaps: NDArray[np.float32], object_labels: NDArray[np.int64], min_iou: float = 0.5
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows ``(M,)`` of the boxes to train on and the object ``(M,)`` of each, int64.

    ``overlaps`` ``(R, N)`` is the IoU with all N objects of all classes. A box is assigned to the object that it
    overlaps most, and only if by more than ``min_iou`` (release: strictly).
    """
    if overlaps.shape[1] == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    objects = overlaps.argmax(1)
    rows = np.flatnonzero(overlaps[np.arange(len(overlaps)), objects] > min_iou)
    return rows.astype(np.int64), objects[rows].astype(np.int64)


def fit_regressor(
    features: Features, deltas: NDArray[np.float32], regularization: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weights ``(D, 4)`` and bias ``(4,)``, float32, of one class's regressor.

    ``features`` ``(n, D)`` and ``deltas`` ``(n, 4)`` are float32, n at least 1. The deltas are centered, and four ridge
    problems are solved on the features with a constant 1 appended, which is penalized, too (release:
    train_bbox_regressor, which also whitens the deltas and undoes it in the weights: a ridge regression is linear in
    its targets, so that this changes nothing). If n < D, the dual gives the same solution faster.
    """
    mean = deltas.mean(0, dtype=np.float64)
    samples = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
    solution = ridge(samples, (deltas - mean).astype(np.float32), regularization)
    return solution[:-1].astype(np.float32), (solution[-1] + mean).astype(np.float32)


def ridge(samples: Features, targets: NDArray[np.float32], regularization: float) -> NDArray[np.float64]:
    """Return the solution ``(D, T)`` of ``min |samples w - targets|^2 + regularization |w|^2``, primal or dual."""
    n, d = samples.shape
    # only the upper triangle, for half of the work; transposed, as BLAS is column-major and would copy rows
    gram = np.asarray(linalg.blas.ssyrk(1.0, samples.T, trans=n < d), np.float64)
    if n < d:
        dual = _solve(gram, targets.astype(np.float64), regularization).astype(np.float32)
        return (samples.T @ dual).astype(np.float64)
    return _solve(gram, (samples.T @ targets).astype(np.float64), regularization)


def _solve(gram: NDArray[np.float64], right: NDArray[np.float64], regularization: float) -> NDArray[np.float64]:
    gram[np.diag_indices_from(gram)] += regularization
    factor = linalg.cho_factor(gram, overwrite_a=True, check_finite=False)
    return np.asarray(linalg.cho_solve(factor, right, check_finite=False))


@dataclass(frozen=True)
class _Part:
    """Boxes ``(n, 4)`` of an image, by its index, to pool."""

    index: int
    boxes: Boxes
    path: Path


@dataclass(frozen=True)
class _PoolingFactory:
    """Builds the function of a worker, from boxes to features ``(n, D)`` float32; ``images`` come without a cache."""

    images: TrainingSet
    build: Callable[[], FeatureCache]

    def __call__(self) -> Callable[[_Part], Features]:
        images = replace(self.images, cache=self.build())
        return lambda part: images.features(part.index, part.boxes)


@dataclass(frozen=True)
class _Examples:
    """Boxes ``(n, 4)``, their objects ``(n, 4)``, and the image ``(n,)`` and label ``(n,)`` of each."""

    boxes: Boxes
    objects: Boxes
    images: NDArray[np.int64]
    labels: NDArray[np.int64]


def _regression_examples(images: TrainingSet, min_iou: float) -> _Examples:
    parts: list[tuple[Boxes, Boxes, NDArray[np.int64], NDArray[np.int64]]] = []
    for index, annotation in enumerate(images.annotations):
        boxes, overlaps = images.labeled_boxes(index)
        rows, objects = assign_boxes(overlaps, annotation.labels, min_iou)
        parts.append((boxes[rows], annotation.boxes[objects], np.full(len(rows), index), annotation.labels[objects]))
    return _Examples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _parts(images: TrainingSet, examples: _Examples, rows: NDArray[np.int64]) -> Iterator[_Part]:
    """Yield the examples at ascending rows, one image after the other."""
    for image in np.unique(examples.images[rows]).tolist():
        own = rows[examples.images[rows] == image]
        yield _Part(image, examples.boxes[own], images.annotations[image].path)
