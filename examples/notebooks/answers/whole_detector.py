"""Answers to the exercises of notebook 6."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.explanation.attribution import Attribution
from detector.heads.linear import LinearSVMs


def answer_1(true: NDArray[np.bool_], n_objects: int) -> float:
    """Return the average precision over 11 recalls."""
    hits = np.cumsum(true)
    precision = hits / np.arange(1, len(true) + 1)
    reached = [precision[10 * hits >= k * n_objects] for k in range(11)]
    return float(np.mean([values.max() if len(values) else 0.0 for values in reached]))


def answer_2(attribution: Attribution) -> float:
    """Return the score."""
    return attribution.bias + sum(float(values.sum()) for values in attribution.levels.values())


def answer_3(features: NDArray[np.float32], svms: LinearSVMs) -> NDArray[np.float32]:
    """Return the scores of the classes."""
    return features @ svms.weights + svms.biases
