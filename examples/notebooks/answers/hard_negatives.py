"""Answers to the exercises of notebook 4."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def answer_1(scores: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the squared hinge losses."""
    return np.where(targets == 0, 0.0, np.maximum(0, 1 - targets * scores) ** 2)


def answer_2(overlaps: NDArray[np.float32], object_labels: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the targets of the boxes."""
    targets = np.where(overlaps < 0.3, -1, 0).astype(np.int8)
    for row, label in enumerate(object_labels):
        targets[row, label] = 1
    return targets


def answer_3(
    scores: NDArray[np.float32], targets: NDArray[np.int64], count: int, margin: float = -1.0
) -> NDArray[np.int64]:
    """Return the hardest negatives."""
    rows = np.flatnonzero((targets < 0) & (scores > margin))
    return np.sort(rows[np.argsort(-scores[rows], kind="stable")[:count]])
