"""Attribute the score of a box exactly to the feature-map cells that it was pooled from.

Scores are linear in the features of SVMs, a softmax's log odds have a gradient, and layers of ReLU are affine around a
point. So a score is a constant plus one attribution for every bin and channel of the pooled features. The value of a
bin is that of one cell of the feature map: the one that won the maximum of the channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detector.backbones.geometry import Geometry
from detector.boxes import Boxes
from detector.detections import Detection
from detector.features.encoder import FeatureMaps
from detector.features.pooling import largest_cells
from detector.pipeline import Detector
from detector.tiles import Window, moved

Values = NDArray[np.float64]
Part = Literal["net", "for", "against"]

_DECIMALS = 6


@dataclass(frozen=True, eq=False)
class ScoredPosition:
    """One position of a box at which it was scored; box refinement scores several and averages them.

    box: ``(4,)`` float32, pixels of the image.
    short_side, zoom: of the scale whose map was pooled.
    cells: ``(4,)`` int64, the half-open window ``x1 y1 x2 y2`` on the feature map.
    score, bias: at this position; bias and all attributions add up to the score.
    levels: by level n of the pyramid, ``(n, n)`` float64, the attributions of its bins.
    cell_values: ``(h, w)`` float64, the same attributions by the cells of the map that won the bins.
    geometry: location of the cells in the resized image.
    window: the tile whose map was pooled; None for the whole image.
    """

    box: Boxes
    short_side: int
    zoom: float
    cells: NDArray[np.int64]
    score: float
    bias: float
    levels: dict[int, Values]
    cell_values: Values
    geometry: Geometry
    window: Window | None = None

    def heat_map(self, image_size: tuple[int, int], part: Part = "net") -> NDArray[np.float32]:
        """Spread the attribution of each cell evenly over its square in the image: ``(H, W)`` float32."""
        # a cell may win several bins, some for and some against: its net value counts
        values = self.cell_values
        parts = {"net": values, "for": np.maximum(values, 0), "against": np.minimum(values, 0)}
        if self.window is None:
            return spread(parts[part], self.zoom, self.geometry, image_size)
        heat = np.zeros(image_size, np.float32)
        x1, y1, x2, y2 = self.window
        heat[y1:y2, x1:x2] = spread(parts[part], self.zoom, self.geometry, self.window.size)
        return heat

    def in_window(self, window: Window) -> ScoredPosition:
        """Return the position, of a tile, in pixels of the image."""
        return replace(self, box=moved(self.box[None], window)[0], window=window)


@dataclass(frozen=True, eq=False)
class Attribution:
    """The score of a box in a class as a bias and attributions: the mean over the positions where it was scored.

    box: ``(4,)`` float32, pixels of the image, after box regression.
    class_name, score: of the detection.
    positions: where the box was scored.
    image_size: height and width of the image.
    model: index of the detector of an ensemble that scored the box.
    probability: of the score; None for a model without calibration.
    """

    box: Boxes
    class_name: str
    score: float
    positions: tuple[ScoredPosition, ...]
    image_size: tuple[int, int]
    model: int = 0
    probability: float | None = None

    def __repr__(self) -> str:
        """Return such as "Attribution(cat 99 % at 6 6 421 296: score 4.97 = bias -1.02 + cells 5.99)"."""
        sums = f"score {self.score:.2f} = bias {self.bias:.2f} + cells {self.score - self.bias:.2f}"
        return f"Attribution({self.detection}: {sums})"

    @property
    def detection(self) -> Detection:
        """The detection that is explained."""
        return Detection(self.class_name, self.score, tuple(self.box.tolist()), self.probability)

    @property
    def levels(self) -> dict[int, Values]:
        """Attributions of the bins of the pyramid, ``(n, n)`` float64 by level."""
        return {n: np.mean([each.levels[n] for each in self.positions], axis=0) for n in self.positions[0].levels}

    @property
    def bias(self) -> float:
        """The score minus all attributions; includes the rounding inside the detector."""
        return self.score - float(sum(values.sum() for values in self.levels.values()))

    @property
    def rounding(self) -> float:
        """The part of the bias that is neither a bias of the model nor an entropy of its softmax, but rounding."""
        return self.bias - float(np.mean([each.bias for each in self.positions]))

    def heat_map(self, part: Part = "net") -> NDArray[np.float32]:
        """Spread the attributions over the image, ``(H, W)`` float32, keeping their sum.

        part: "net" for all cells, "for" for those that raise the score alone, and "against" for those that lower it,
            whose values are negative; net is the sum of the two.
        """
        total = np.zeros(self.image_size, np.float32)
        for each in self.positions:
            total += each.heat_map(self.image_size, part)
        total /= len(self.positions)
        return total

    def to_record(self) -> dict[str, Any]:
        """Return ``{"bias": float, "levels": {"6": [[...], ...], ...}}`` for JSON; together they sum to the score."""
        levels = {str(n): np.round(values, _DECIMALS).tolist() for n, values in self.levels.items()}
        return {"bias": round(self.bias, _DECIMALS), "levels": levels}


def attribute(detector: Detector, maps: FeatureMaps, positions: Boxes, label: int) -> tuple[ScoredPosition, ...]:
    """Attribute the score of a class at each of the ``(P, 4)`` positions of a box."""
    encoder = detector.encoder
    regions = encoder.regions(maps, positions)
    pooled = encoder.pool(maps, regions)
    weights, constants = detector.heads.affine_at(pooled, np.full(len(positions), label, np.int64))
    values = pooled * weights
    return tuple(
        ScoredPosition(
            box,
            encoder.short_sides[region[0]],
            maps.zooms[region[0]],
            region[1:],
            float(row.sum() + constant),
            float(constant),
            _by_level(row.reshape(-1, encoder.backbone.channels).sum(1), encoder.levels),
            _by_cell(row, maps.maps[region[0]], region[1:], encoder.levels),
            encoder.backbone.geometry,
        )
        for box, region, row, constant in zip(positions, regions, values, constants, strict=True)
    )


def _by_level(values: Values, levels: Sequence[int]) -> dict[int, Values]:
    """Split the attributions ``(n_bins,)`` of bins into grids."""
    grids: dict[int, Values] = {}
    start = 0
    for level in levels:
        grid = values[start : start + level * level].reshape(level, level)
        grids[level] = grids.get(level, 0) + grid
        start += level * level
    return grids


def _by_cell(
    values: Values, feature_map: NDArray[np.floating], cells: NDArray[np.int64], levels: Sequence[int]
) -> Values:
    """Sum attributions ``(n_bins * C,)`` over the cells of the map that won the bins, ``(h, w)``."""
    height, width = feature_map.shape[:2]
    winners = largest_cells(feature_map.astype(np.float32, copy=False), cells[None], levels)
    sums: Values = np.bincount(winners.ravel(), values, minlength=height * width).astype(np.float64)
    return sums.reshape(height, width)


def spread(
    values: NDArray[np.floating], zoom: float, geometry: Geometry, image_size: tuple[int, int]
) -> NDArray[np.float32]:
    """Spread the values ``(h, w)`` of a map's cells evenly over their squares in the image: ``(H, W)`` float32.

    The side of a cell's square is the stride of the map, in pixels of the image resized by ``zoom``, and its center
    the center of the cell. The part of a square outside the image goes to the rest of its row and column; a cell that
    is entirely outside goes to the edge. Sums are kept.
    """
    rows, columns = (
        _pixel_weights(count, zoom, geometry, pixels) for count, pixels in zip(values.shape, image_size, strict=True)
    )
    return (rows.T @ values @ columns).astype(np.float32)


def _pixel_weights(count: int, zoom: float, geometry: Geometry, pixels: int) -> Values:
    """Return the fraction of each cell along an axis that falls on each pixel, ``(count, pixels)``; rows sum to 1."""
    # the geometry counts from the center of the first pixel, half a pixel from the edge
    edges = (geometry.offset + 0.5 + (np.arange(count + 1) - 0.5) * geometry.stride) / zoom
    starts = np.clip(edges[:-1], 0, pixels - 1)
    ends = np.clip(edges[1:], 1, pixels)
    pixel = np.arange(pixels)
    overlaps = np.minimum(ends[:, None], pixel + 1) - np.maximum(starts[:, None], pixel)
    weights = np.maximum(overlaps, 0)
    return weights / weights.sum(1, keepdims=True)
