"""Hard-negative buffer: the training samples of all classes, in memory of a fixed size."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Targets = NDArray[np.int8]
Rows = NDArray[np.int64]


@dataclass
class SampleBuffer:
    """Samples of all classes: ``features`` ``(N, D)``, ``targets`` ``(N, K)``, ``keys`` ``(N, 2)`` image and row.

    Features are rounded to float16, so that twice as many fit. ``duals`` ``(N, K)`` are the dual variables of the last
    fit, a warm start for the next one; those of samples added since are 0.
    """

    capacity: int
    n_features: int
    n_classes: int
    size: int = 0
    _features: NDArray[np.float16] = field(init=False, repr=False)
    _targets: Targets = field(init=False, repr=False)
    _keys: NDArray[np.int64] = field(init=False, repr=False)
    _duals: NDArray[np.float32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # pages of an empty array take no memory until they are written
        self._features = np.empty((self.capacity, self.n_features), np.float16)
        self._targets = np.empty((self.capacity, self.n_classes), np.int8)
        self._keys = np.empty((self.capacity, 2), np.int64)
        self._duals = np.empty((self.capacity, self.n_classes), np.float32)

    @property
    def features(self) -> NDArray[np.float16]:
        return self._features[: self.size]

    @property
    def targets(self) -> Targets:
        return self._targets[: self.size]

    @property
    def keys(self) -> NDArray[np.int64]:
        return self._keys[: self.size]

    @property
    def duals(self) -> NDArray[np.float32]:
        return self._duals[: self.size]

    @property
    def free(self) -> int:
        """Number of samples that still fit."""
        return self.capacity - self.size

    def rows_of(self, image: int) -> Rows:
        """Return the rows ``(n,)`` of the samples of an image that are in the buffer."""
        return self.keys[self.keys[:, 0] == image, 1]

    def add(self, features: NDArray[np.floating], targets: Targets, image: int, rows: Rows) -> None:
        """Append samples of one image. Raises ValueError if they do not fit."""
        if len(rows) > self.free:
            raise ValueError(f"the sample buffer holds {self.capacity} samples; {len(rows)} more do not fit")
        end = self.size + len(rows)
        self._features[self.size : end] = features
        self._targets[self.size : end] = targets
        self._keys[self.size : end] = np.stack([np.full(len(rows), image), rows], axis=1)
        self._duals[self.size : end] = 0
        self.size = end

    def keep(self, rows: Rows) -> None:
        """Drop all samples but those at the ascending indices ``rows``; works in place, block by block."""
        for start in range(0, len(rows), 1024):
            block = rows[start : start + 1024]
            target = slice(start, start + len(block))
            for array in (self._features, self._targets, self._keys, self._duals):
                array[target] = array[block]
        self.size = len(rows)
