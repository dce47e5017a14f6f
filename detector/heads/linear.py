"""Linear SVMs and linear box regressors, one per class, for inference (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]


_ROWS = 32


def in_blocks(function: Callable[[Features], Features], rows: Features, n_outputs: int, size: int) -> Features:
    """Return ``function(rows)``, ``(R, n_outputs)`` float32 of ``(R, D)``, computed in blocks of ``size`` rows each.

    The last block is filled up with zeros. Matrix products choose their order of additions by the shape: otherwise the
    bits of a row would depend on the number of rows.
    """
    result = np.empty((len(rows), n_outputs), np.float32)
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        n_rows = len(block)
        if n_rows < size:
            block = np.pad(block, ((0, size - n_rows), (0, 0)))
        result[start : start + n_rows] = function(block)[:n_rows]
    return result


def product(features: Features, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``features @ weights``, ``(R, D)`` and ``(D, T)``, by `in_blocks`."""
    return in_blocks(lambda block: block @ weights, features, weights.shape[1], _ROWS)


@dataclass(frozen=True)
class LinearSVMs:
    """One linear SVM per class: ``weights`` ``(D, K)`` float32 and ``biases`` ``(K,)`` float32."""

    weights: NDArray[np.float32]
    biases: NDArray[np.float32]

    @property
    def n_classes(self) -> int:
        """Number K of classes."""
        return len(self.biases)

    def decision_function(self, features: Features) -> NDArray[np.float32]:
        """Return margins ``(R, K)`` float32, unbounded and not probabilities, of ``(R, D)`` float32 features."""
        if features.ndim != 2 or features.shape[1] != len(self.weights):
            raise ValueError(f"features must have shape (_, {len(self.weights)}), but got {features.shape}")
        return product(features, self.weights) + self.biases

    def affine_at(
        self, features: Features, labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return weights ``(R, D)`` and constants ``(R,)`` of the score of each row in the class of its label."""
        return self.weights.T[labels], self.biases[labels]


@dataclass(frozen=True)
class BoxRegressors:
    """One box regressor per class: ``weights`` ``(K, D, 4)`` float32 and ``biases`` ``(K, 4)`` float32."""

    weights: NDArray[np.float32]
    biases: NDArray[np.float32]

    def select(self, labels: Sequence[int]) -> BoxRegressors:
        """Return the regressors of the classes with these labels."""
        return BoxRegressors(self.weights[list(labels)], self.biases[list(labels)])

    def predict(
        self, features: Features, labels: NDArray[np.int64], rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Return box deltas ``(N, 4)`` float32, each by the regressor of its label ``(N,)``.

        features: ``(R, D)`` float32. rows: ``(N,)``, the row of the features of each label; by default 0..R-1.
        """
        if features.ndim != 2 or features.shape[1] != self.weights.shape[1]:
            raise ValueError(f"features must have shape (_, {self.weights.shape[1]}), but got {features.shape}")
        rows = np.arange(len(features)) if rows is None else rows
        deltas = np.zeros((len(labels), 4), np.float32)
        for k in np.unique(labels):
            own = labels == k
            deltas[own] = product(features[rows[own]], self.weights[k]) + self.biases[k]
        return deltas
