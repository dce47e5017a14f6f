"""How a detector's score splits into shares of cells, exactly.

Scores are linear in the features of SVMs, a softmax's log odds are where they stand, and layers of ReLU are affine
there: so a score is a constant and one share for every bin and channel of the pooled features, each of which is the
value of one cell of the feature map, the one that won the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, flip
from detector.explanation.attribution import Look
from detector.features.encoder import FeatureMaps
from detector.features.pooling import largest_cells
from detector.pipeline import AnyDetector


def looks(detector: AnyDetector, maps: FeatureMaps, positions: Boxes, label: int) -> tuple[Look, ...]:
    """What the mean score of a box in a class is made of: a look at each of its ``(P, 4)`` positions.

    Where the detector uses the mirror image there are as many looks at that.
    """
    found = _looks_at(detector, maps, positions, label, mirrored=False)
    if detector.uses_mirror_image and maps.mirrored is not None:
        found += _looks_at(detector, maps.mirrored, positions, label, mirrored=True)
    return tuple(found)


def _looks_at(detector: AnyDetector, maps: FeatureMaps, positions: Boxes, label: int, mirrored: bool) -> list[Look]:
    encoder = detector.encoder
    regions = encoder.regions(maps, flip(positions, maps.image_size[1]) if mirrored else positions)
    pooled = encoder.pool(maps, regions)
    weights, constants = detector.heads.affine_at(pooled, np.full(len(positions), label, np.int64))
    shares = pooled * weights
    return [
        Look(
            box,
            mirrored,
            encoder.short_sides[region[0]],
            maps.zooms[region[0]],
            region[1:],
            float(row.sum() + constant),
            float(constant),
            _by_level(row.reshape(-1, encoder.backbone.channels).sum(1), encoder.levels, mirrored),
            _by_cell(row, maps.maps[region[0]], region[1:], encoder.levels),
            encoder.backbone.geometry,
        )
        for box, region, row, constant in zip(positions, regions, shares, constants, strict=True)
    ]


def _by_level(shares: NDArray[np.float64], levels: Sequence[int], mirrored: bool) -> dict[int, NDArray[np.float64]]:
    """Shares ``(n_bins,)`` as grids, turned back where they are of the mirror image."""
    grids: dict[int, NDArray[np.float64]] = {}
    start = 0
    for level in levels:
        grid = shares[start : start + level * level].reshape(level, level)
        grids[level] = grids.get(level, 0) + (grid[:, ::-1] if mirrored else grid)
        start += level * level
    return grids


def _by_cell(
    shares: NDArray[np.float64], feature_map: NDArray[np.floating], cells: NDArray[np.int64], levels: Sequence[int]
) -> NDArray[np.float64]:
    """Shares ``(n_bins * C,)`` summed over the cells of the map whose values they are, ``(h, w)``."""
    height, width = feature_map.shape[:2]
    winners = largest_cells(feature_map.astype(np.float32, copy=False), cells[None], levels)
    sums: NDArray[np.float64] = np.bincount(winners.ravel(), shares, minlength=height * width).astype(np.float64)
    return sums.reshape(height, width)
