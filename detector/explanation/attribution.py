"""The evidence of a detection: its score as a bias and shares of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detector.backbones.tracing import Geometry
from detector.boxes import Boxes


def spread(
    shares: NDArray[np.floating], zoom: float, geometry: Geometry, image_size: tuple[int, int]
) -> NDArray[np.float32]:
    """Spread the shares ``(h, w)`` of a map's cells evenly over their squares in the image: ``(H, W)`` float32.

    A cell's square has the stride of the map as its side, in pixels of the image as it was resized by ``zoom``, and
    the center of the cell in its middle. What lies outside of the image goes to the rest of its row and column; a cell
    that lies outside as a whole goes to the edge. Sums stay as they are.
    """
    rows, columns = (
        _parts(count, zoom, geometry, pixels) for count, pixels in zip(shares.shape, image_size, strict=True)
    )
    return (rows.T @ shares @ columns).astype(np.float32)


def _parts(count: int, zoom: float, geometry: Geometry, pixels: int) -> NDArray[np.float64]:
    """How much of each cell along an axis falls on each pixel, ``(count, pixels)``; rows add up to 1."""
    # the geometry counts from the center of the first pixel, half a pixel from the edge
    edges = (geometry.offset + 0.5 + (np.arange(count + 1) - 0.5) * geometry.stride) / zoom
    starts = np.clip(edges[:-1], 0, pixels - 1)
    ends = np.clip(edges[1:], 1, pixels)
    pixel = np.arange(pixels)
    overlaps = np.minimum(ends[:, None], pixel + 1) - np.maximum(starts[:, None], pixel)
    parts = np.maximum(overlaps, 0)
    return parts / parts.sum(1, keepdims=True)


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
