"""Box regressors as they are used once trained, one a class (paper, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
