"""The evidence of a detection: its score as a bias and shares of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detector.backbones.geometry import Geometry
from detector.boxes import Boxes
from detector.explanation.heat_map import spread

Shares = NDArray[np.float64]
Part = Literal["net", "for", "against"]

_DECIMALS = 6


@dataclass(frozen=True, eq=False)
class Look:
    """One reading of the feature maps for a score, at one position of the box, in the image or its mirror image.

    box: ``(4,)`` float32, where the box was, in pixels of the image, not of its mirror image.
    mirrored: whether it was read from the mirror image.
    short_side, zoom: of the scale that it was read from.
    cells: ``(4,)`` int64, the half-open window ``x1 y1 x2 y2`` on the feature map.
    score, bias: of this look alone; bias and all shares add up to the score.
    levels: ``(n, n)`` float64 by level of the pyramid, the shares of its bins as they lie in the image.
    shares: ``(h, w)`` float64, the same shares by the cells of the map that won the bins, as they lie in the map.
    geometry: where the cells lie in the resized image.
    """

    box: Boxes
    mirrored: bool
    short_side: int
    zoom: float
    cells: NDArray[np.int64]
    score: float
    bias: float
    levels: dict[int, Shares]
    shares: Shares
    geometry: Geometry

    def heat_map(self, image_size: tuple[int, int], part: Part = "net") -> NDArray[np.float32]:
        """Shares of the cells, each spread evenly over its square in the image: ``(H, W)`` float32."""
        # a share may be for and another one against in the same cell: what counts is what a cell does in the end
        shares = {"net": self.shares, "for": np.maximum(self.shares, 0), "against": np.minimum(self.shares, 0)}[part]
        heat = spread(shares, self.zoom, self.geometry, image_size)
        return np.ascontiguousarray(heat[:, ::-1]) if self.mirrored else heat


@dataclass(frozen=True, eq=False)
class Evidence:
    """Why a box scores what it does in a class: the mean of all looks that its score is the mean of.

    box: ``(4,)`` float32, pixels of the image: the detection's, where it ended up.
    class_name, score: the detection's.
    looks: what the score is the mean of.
    image_size: height and width of the image.
    model: which of the detectors of an ensemble scored the box, from 0.
    """

    box: Boxes
    class_name: str
    score: float
    looks: tuple[Look, ...]
    image_size: tuple[int, int]
    model: int = 0

    @property
    def levels(self) -> dict[int, Shares]:
        """Shares of the cells of the pyramid, ``(n, n)`` float64 by level, as they lie in the image."""
        return {n: np.mean([look.levels[n] for look in self.looks], axis=0) for n in self.looks[0].levels}

    @property
    def bias(self) -> float:
        """What no cell has a share in: the score less all shares. Rounding inside the detector is in it."""
        return self.score - float(sum(shares.sum() for shares in self.levels.values()))

    @property
    def rounding(self) -> float:
        """How much of the bias is neither a bias of the model nor an entropy of its softmax, but rounding."""
        return self.bias - float(np.mean([look.bias for look in self.looks]))

    def heat_map(self, part: Part = "net") -> NDArray[np.float32]:
        """Shares spread over the image, ``(H, W)`` float32: its sum is theirs.

        ``part`` is "net" for all, "for" for cells that speak for the class alone and "against" for those that speak
        against it, whose values are negative: net is the sum of the two.
        """
        total = np.zeros(self.image_size, np.float32)
        for look in self.looks:
            total += look.heat_map(self.image_size, part)
        total /= len(self.looks)
        return total

    def to_record(self) -> dict[str, Any]:
        """``{"bias": float, "levels": {"6": [[...], ...], ...}}``, ready for JSON; bias and shares make the score."""
        levels = {str(n): np.round(shares, _DECIMALS).tolist() for n, shares in self.levels.items()}
        return {"bias": round(self.bias, _DECIMALS), "levels": levels}
