"""Find boxes that are like a given one, by short descriptors of the first proposals of every image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes
from detector.features.encoder import Encoder, FeatureMaps

N_BOXES = 200
"""Proposals of an image that are compared."""
N_VALUES = 96
"""Values of a descriptor: a random projection, which keeps angles to about a tenth (Johnson and Lindenstrauss)."""
_LEVELS = (2, 1)


class Match(NamedTuple):
    """Box of an image, by its number, that is most like the one asked for; similarity: a cosine, -1 to 1."""

    image: int
    corners: tuple[float, ...]
    similarity: float


class BoxIndex:
    """Descriptors ``(N_BOXES, N_VALUES)`` float16 of the images added so far: 38 KB each."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder.with_levels(_LEVELS)
        shape = self._encoder.n_features, N_VALUES
        self._projection = (np.random.default_rng(0).standard_normal(shape) / np.sqrt(N_VALUES)).astype(np.float32)
        self._mean: NDArray[np.float32] | None = None
        self._entries: dict[int, tuple[Boxes, NDArray[np.float16]]] = {}

    def __contains__(self, image: int) -> bool:
        return image in self._entries

    def add(self, image: int, maps: FeatureMaps, boxes: Boxes) -> None:
        """Add the first proposals ``(R, 4)`` of an image."""
        boxes = boxes[:N_BOXES]
        pooled = self._encoder.pool(maps, self._encoder.regions(maps, boxes))
        if self._mean is None and len(pooled):
            self._mean = pooled.mean(0)  # of any image: it only makes unlike boxes point elsewhere
        self._entries[image] = boxes, self._described(pooled).astype(np.float16)

    def search(self, maps: FeatureMaps, corners: tuple[float, ...]) -> list[Match]:
        """Return the best match of each image, most similar first, for a box of the image that has these maps."""
        box = np.array([corners], np.float32)
        (wanted,) = self._described(self._encoder.pool(maps, self._encoder.regions(maps, box)))
        found = []
        for image, (boxes, descriptors) in list(self._entries.items()):
            if len(boxes):
                similarities = descriptors.astype(np.float32) @ wanted
                row = int(similarities.argmax())
                found.append(Match(image, tuple(boxes[row].tolist()), float(similarities[row])))
        return sorted(found, key=lambda each: -each.similarity)

    def _described(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        projected = (pooled - (0 if self._mean is None else self._mean)) @ self._projection
        return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
