"""Box regressors as they are used once trained, one a class (paper, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LinearSVMs:
    """``weights`` ``(D, K)`` float32 and ``biases`` ``(K,)`` float32 of one linear SVM a class."""

    weights: NDArray[np.float32]
    biases: NDArray[np.float32]

    def decision_function(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Margins ``(R, K)`` float32, unbounded and no probabilities, of ``(R, D)`` float32 features."""
        if features.ndim != 2 or features.shape[1] != len(self.weights):
            raise ValueError(f"features must have shape (_, {len(self.weights)}), but got {features.shape}")
        return features @ self.weights + self.biases

    def affine_at(
        self, features: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Weights ``(R, D)`` and constants ``(R,)`` that make up the score of each row in the class of its label."""
        return self.weights.T[labels], self.biases[labels]


Features = NDArray[np.float32]


@dataclass(frozen=True)
class BoxRegressors:
    """``weights`` ``(K, D, 4)`` float32 and ``biases`` ``(K, 4)`` float32 of one regressor a class."""

    weights: NDArray[np.float32]
    biases: NDArray[np.float32]

    def predict(
        self, features: Features, labels: NDArray[np.int64], rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Deltas ``(n, 4)`` float32 of ``(R, D)`` features, each by the regressor of its label ``(n,)``.

        ``rows`` ``(n,)`` says whose features each is of; by default each row is asked for once, in order.
        """
        if features.ndim != 2 or features.shape[1] != self.weights.shape[1]:
            raise ValueError(f"features must have shape (_, {self.weights.shape[1]}), but got {features.shape}")
        rows = np.arange(len(features)) if rows is None else rows
        deltas = np.zeros((len(labels), 4), np.float32)
        for k in np.unique(labels):
            own = labels == k
            deltas[own] = features[rows[own]] @ self.weights[k] + self.biases[k]
        return deltas
