"""The regression stage of a training: boxes near objects of each class, and a ridge regressor for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, encode_deltas
from detector.config.detector import RegressionConfig
from detector.heads.box_regressors import BoxRegressors
from detector.runtime.progress import Progress, without_progress
from detector.training.ridge_regression import assign_boxes, fit_regressor
from detector.training.training_set import TrainingSet


def train_regressors(
    images: TrainingSet, config: RegressionConfig, seed: int, progress: Progress = without_progress
) -> BoxRegressors:
    """Fit one box regressor a class on boxes that overlap an object of it by more than ``config.min_iou``.

    At most ``config.max_samples`` boxes a class, drawn at random, so that memory is bounded by that number of
    features. Features are pooled class by class; a class without a box moves nothing.
    """
    examples = _regression_examples(images, config.min_iou)
    rng = np.random.default_rng(seed)
    n_features = images.n_features
    weights = np.zeros((images.n_classes, n_features, 4), np.float32)
    biases = np.zeros((images.n_classes, 4), np.float32)
    for label in progress(range(images.n_classes), "box regressors"):
        rows = np.flatnonzero(examples.labels == label)
        rows = np.sort(rng.permutation(rows)[: config.max_samples])
        if not len(rows):
            continue
        features = np.empty((len(rows), n_features), np.float32)
        for image in np.unique(examples.images[rows]):
            here = examples.images[rows] == image
            features[here] = images.features(int(image), examples.boxes[rows[here]])
        deltas = encode_deltas(examples.boxes[rows], examples.objects[rows])
        fitted = fit_regressor(features, deltas, config.regularisation)
        weights[label], biases[label] = images.unscaled(*fitted)
    return BoxRegressors(weights, biases)


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
