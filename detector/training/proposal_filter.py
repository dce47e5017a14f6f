"""Train the proposal filter: ridge regression from coarse bins to the class of an overlapped object, in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from detector.config.detector import ProposalFilterConfig
from detector.heads.proposal_filter import ProposalFilter
from detector.runtime.progress import Progress, no_progress
from detector.training.sampling import sample_boxes
from detector.training.training_set import TrainingSet

Samples = tuple[NDArray[np.float32], NDArray[np.float32]]

IMAGES_AT_ONCE = 8


def train_proposal_filter(
    images: TrainingSet, config: ProposalFilterConfig, progress: Progress = no_progress
) -> ProposalFilter:
    """Train on random boxes of random images, a quarter of them objects, to separate each class from everything else.

    Memory grows with the square of the number of features, and not with the number of images. Raises ValueError if no
    image has a box.
    """
    n_features = images.cache.encoder.with_levels(config.levels).n_features + 1
    gram = np.zeros((n_features, n_features))
    right = np.zeros((n_features, images.n_classes))
    rows = proposal_filter_images(len(images), config)
    for start in progress(range(0, len(rows), IMAGES_AT_ONCE), "proposal filter"):
        numbers = rows[start : start + IMAGES_AT_ONCE]
        features, targets = (np.concatenate(parts) for parts in zip(*_samples(images, numbers, config), strict=True))
        gram += features.T @ features
        right += features.T @ targets
    if not (n_samples := gram[-1, -1]):
        raise ValueError("no boxes to train the proposal filter on")
    # the constant is not penalized; eliminating it leaves covariances
    mean, mean_target = gram[:-1, -1] / n_samples, right[-1] / n_samples
    covariance = gram[:-1, :-1] / n_samples - np.outer(mean, mean)
    covariance[np.diag_indices_from(covariance)] += config.regularization * covariance.trace() / len(mean)
    weights = np.linalg.solve(covariance, right[:-1] / n_samples - np.outer(mean, mean_target))
    return ProposalFilter(weights.astype(np.float32), (mean_target - mean @ weights).astype(np.float32), config.levels)


def proposal_filter_images(n_images: int, config: ProposalFilterConfig) -> list[int]:
    """Return the ascending rows of the images that the proposal filter is trained on."""
    return sorted(np.random.default_rng(config.seed).permutation(n_images)[: config.images].tolist())


def _samples(images: TrainingSet, numbers: Sequence[int], config: ProposalFilterConfig) -> Iterator[Samples]:
    """Yield features ``(n, D + 1)`` of boxes of each image, the last one 1, and targets ``(n, K)``: 1 for its class."""
    encoder = images.cache.encoder.with_levels(config.levels)
    for number in numbers:
        annotation = images.annotations[number]
        boxes, overlaps = images.labeled_boxes(number)
        random = np.random.default_rng((config.seed, number))
        rows, labels = sample_boxes(
            overlaps, annotation.labels, images.n_classes, config.boxes, random, background_iou=(0.0, 0.5)
        )
        maps = images.cache.maps(annotation.image_id, annotation.path, annotation.window)
        pooled = encoder.pool(maps, encoder.regions(maps, boxes[rows]))
        # background is the last of K + 1 labels and has no column
        targets = np.eye(images.n_classes + 1, dtype=np.float32)[labels, :-1]
        yield np.pad(pooled, ((0, 0), (0, 1)), constant_values=1), targets
