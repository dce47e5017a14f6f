"""Samples for mining whose features are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.heads.linear import LinearSVMs


@dataclass(frozen=True)
class FakeSamples:
    """Samples of an image whose features are known."""

    targets: NDArray[np.int8]
    known: NDArray[np.float32]

    def features(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.known[rows]

    def scores(self, svms: LinearSVMs) -> NDArray[np.float32]:
        return svms.decision_function(self.known)


@dataclass(frozen=True)
class FakeImages:
    """Images with a matrix of features each."""

    features: NDArray[np.float32]  # (images, boxes, D)
    targets: NDArray[np.int8]  # (images, boxes, K)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> FakeSamples:
        return FakeSamples(self.targets[index], self.features[index])
