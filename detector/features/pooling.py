"""Spatial pyramid pooling of windows of a feature map (paper, section 2.3 and appendix A).

Bin ``i`` of a level of ``n`` bins over a window of ``size`` cells spans ``floor(i * size / n)`` up to, not
including, ``ceil((i + 1) * size / n)``. Bins overlap where ``n`` does not divide ``size`` and are never empty.
It follows that every bin of a level that divides another level is an exact union of that level's bins: 6 x 6 is
pooled from the map, 3, 2 and 1 are maxima over blocks of its bins, with equal bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.compiling import kernel

PAPER_LEVELS = (6, 3, 2, 1)


def n_bins(levels: Sequence[int]) -> int:
    """Number of bins of a pyramid: 50 for levels 6, 3, 2, 1. Raises ValueError unless all levels are positive."""
    if not levels or any(level < 1 for level in levels):
        raise ValueError(f"levels must be one or more positive numbers, but are {tuple(levels)}")
    return sum(level * level for level in levels)


def spatial_pyramid_pool(
    feature_map: NDArray[np.float32], cells: NDArray[np.int64], levels: Sequence[int] = PAPER_LEVELS
) -> NDArray[np.float32]:
    """Max-pool windows of a feature map into the bins of a pyramid.

    ``feature_map`` is ``(h, w, C)`` float32, channels last, so that a cell's channels lie together in memory;
    ``cells`` is ``(R, 4)`` int64, half-open windows ``x1 y1 x2 y2`` inside the map, none empty. Returns
    ``(R, n_bins, C)`` float32: levels in the order given, rows before columns inside a level. Values may have any
    sign. Raises ValueError for wrong shapes or a window that is empty or leaves the map.
    """
    bins = n_bins(levels)
    if feature_map.ndim != 3 or cells.ndim != 2 or cells.shape[1] != 4:
        raise ValueError(
            f"feature_map must be (h, w, C) and cells (_, 4), but got {feature_map.shape} and {cells.shape}"
        )
    _check_windows(cells, feature_map.shape[:2])
    pooled = np.empty((len(cells), bins, feature_map.shape[2]), np.float32)
    source = np.ascontiguousarray(feature_map, dtype=np.float32)
    for level, start, base, base_start in _plan(levels):
        if base:
            _fold(pooled, start, level, base_start, base)
        else:
            _pool_level(source, cells, level, pooled, start)
    return pooled


def _check_windows(cells: NDArray[np.int64], map_size: tuple[int, ...]) -> None:
    height, width = map_size
    bad = (cells[:, :2] < 0).any(1) | (cells[:, 2:] <= cells[:, :2]).any(1)
    bad |= (cells[:, 2] > width) | (cells[:, 3] > height)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"cells must be windows inside the {height} x {width} map, but row {row} is {cells[row].tolist()}"
        )


def _plan(levels: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Order of work: (level, first bin, level to fold it from or 0, that level's first bin), finest first."""
    starts: list[tuple[int, int]] = []
    start = 0
    for level in levels:
        starts.append((level, start))
        start += level * level
    plan: list[tuple[int, int, int, int]] = []
    for level, first in sorted(starts, reverse=True):
        bases = [(done, done_first) for done, done_first, _, _ in plan if done % level == 0]
        base, base_first = min(bases, default=(0, 0))
        plan.append((level, first, base, base_first))
    return plan


@kernel
def _pool_level(feature_map, cells, level, pooled, start):  # type: ignore[no-untyped-def]
    channels = feature_map.shape[2]
    for r in range(cells.shape[0]):
        x1, y1, x2, y2 = cells[r, 0], cells[r, 1], cells[r, 2], cells[r, 3]
        height, width = y2 - y1, x2 - x1
        for i in range(level):
            top = y1 + i * height // level
            bottom = y1 + ((i + 1) * height + level - 1) // level
            for j in range(level):
                left = x1 + j * width // level
                right = x1 + ((j + 1) * width + level - 1) // level
                out = pooled[r, start + i * level + j]
                first = feature_map[top, left]
                for c in range(channels):
                    out[c] = first[c]
                for y in range(top, bottom):
                    for x in range(left, right):
                        cell = feature_map[y, x]
                        for c in range(channels):
                            out[c] = max(out[c], cell[c])


@kernel
def _fold(pooled, start, level, base_start, base):  # type: ignore[no-untyped-def]
    block = base // level
    channels = pooled.shape[2]
    for r in range(pooled.shape[0]):
        for i in range(level):
            for j in range(level):
                out = pooled[r, start + i * level + j]
                corner = pooled[r, base_start + i * block * base + j * block]
                for c in range(channels):
                    out[c] = corner[c]
                for y in range(i * block, (i + 1) * block):
                    for x in range(j * block, (j + 1) * block):
                        fine = pooled[r, base_start + y * base + x]
                        for c in range(channels):
                            out[c] = max(out[c], fine[c])
