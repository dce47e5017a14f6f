"""Linear SVMs as they are used once trained, one a class (paper, section 4.1)."""

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
