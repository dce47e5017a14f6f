"""Pool boxes on a feature map into the bins of a spatial pyramid (paper, section 2.3 and appendix A).

Bin ``i`` of a level of ``n`` bins over ``size`` cells spans ``floor(i * size / n)`` up to, not
including, ``ceil((i + 1) * size / n)``. Bins overlap where ``n`` does not divide ``size``, and are never empty. So
every bin of a level that divides another level is an exact union of that level's bins: 6 x 6 is pooled from the map;
3, 2 and 1 are maxima over blocks of its bins, equal to the bit. Bins of the map are unions of a few overlapping blocks
of 2 x 2 or 4 x 4 cells, whose maxima are computed once for all boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from detector.runtime.compiling import Array, kernel
from detector.runtime.threads import in_threads, thread_count

Features = NDArray[np.float32]
Maxima = tuple[Features, Features, Features]

PAPER_LEVELS = (6, 3, 2, 1)

BLOCK = 128
"""Number of boxes that a thread pools at a time."""


def n_bins(levels: Sequence[int]) -> int:
    """Return the number of bins of a pyramid, 50 for levels 6, 3, 2, 1. Raises ValueError unless all are positive."""
    if not levels or any(level < 1 for level in levels):
        raise ValueError(f"levels must be one or more positive numbers, but are {tuple(levels)}")
    return sum(level * level for level in levels)


def spatial_pyramid_pool(
    feature_map: NDArray[np.floating],
    cells: NDArray[np.int64],
    levels: Sequence[int] = PAPER_LEVELS,
    threads: int | None = None,
) -> Features:
    """Max-pool rectangles of cells of a feature map into the bins of a pyramid.

    feature_map: ``(h, w, C)`` float32 or float16, channels last, values of any sign.
    cells: ``(R, 4)`` int64, half-open ``x1 y1 x2 y2`` inside the map, none empty.
    threads: number of threads; None: the environment variable DETECTOR_THREADS or, where it is not set, all cores.
    Returns ``(R, n_bins, C)`` float32: levels in the order given, rows before columns inside a level.
    Raises ValueError for wrong shapes, and for cells that are empty or leave the map.
    """
    if feature_map.ndim != 3 or cells.ndim != 2 or cells.shape[1] != 4:
        raise ValueError(
            f"feature_map must be (h, w, C) and cells (_, 4), but got {feature_map.shape} and {cells.shape}"
        )
    pooled = np.empty((len(cells), n_bins(levels), feature_map.shape[2]), np.float32)
    maxima = block_maxima(feature_map)
    blocks = np.split(np.arange(len(cells)), range(BLOCK, len(cells), BLOCK))
    in_threads(lambda rows: pool_into(pooled, rows, maxima, cells[rows], levels), blocks, thread_count(threads))
    return pooled


def block_maxima(feature_map: NDArray[np.floating]) -> Maxima:
    """Return the maxima over blocks of 1, 2 and 4 cells a side.

    Shapes are ``(h, w, C)``, ``(h - 1, w - 1, C)`` and ``(h - 3, w - 3, C)``; the block of ``[y, x]`` begins at that
    cell. Any bin is a union of a few blocks, which may overlap.
    """
    maxima = [np.ascontiguousarray(feature_map, dtype=np.float32)]
    height, width, n_channels = feature_map.shape
    for step in (1, 2):
        height, width = max(height - step, 0), max(width - step, 0)
        maxima.append(np.empty((height, width, n_channels), np.float32))
        _double_blocks(maxima[-2], step, maxima[-1])
    return maxima[0], maxima[1], maxima[2]


def pool_into(
    pooled: Features, rows: NDArray[np.int64], maxima: Maxima, cells: NDArray[np.int64], levels: Sequence[int]
) -> None:
    """Pool like `spatial_pyramid_pool`, on this thread only, into ``rows`` ``(R,)`` of an existing array."""
    _check_cells(cells, maxima[0].shape[:2])
    _pool(maxima, cells, _plan(tuple(levels)), pooled, rows)


def _check_cells(cells: NDArray[np.int64], map_size: tuple[int, ...]) -> None:
    height, width = map_size
    bad = (cells[:, :2] < 0).any(1) | (cells[:, 2:] <= cells[:, :2]).any(1)
    bad |= (cells[:, 2] > width) | (cells[:, 3] > height)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"cells must be rectangles inside the {height} x {width} map, but row {row} is {cells[row].tolist()}"
        )


@cache
def _plan(levels: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the levels, finest first, as rows: level, first bin, level to fold from or 0, its first bin."""
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
    return np.array(plan)


@kernel
def _double_blocks(maxima: Array, step: int, doubled: Array) -> None:
    for y in range(doubled.shape[0]):
        for x in range(doubled.shape[1]):
            out, here, right = doubled[y, x], maxima[y, x], maxima[y, x + step]
            below, beyond = maxima[y + step, x], maxima[y + step, x + step]
            for c in range(out.size):
                out[c] = max(max(here[c], right[c]), max(below[c], beyond[c]))


@kernel
def _pool(maxima: Maxima, cells: Array, plan: Array, pooled: Array, rows: Array) -> None:
    # one box at a time through all levels: its bins are still in the processor's cache when coarser levels are folded
    n_channels = maxima[0].shape[2]
    for i in range(rows.size):
        bins = pooled[rows[i]]
        for level, start, base, base_start in plan:
            if base == 0:
                _pool_level(maxima, cells[i], level, bins[start:])
            else:
                finer = bins[base_start : base_start + base * base].reshape(base, base, n_channels)
                _fold_level(finer, level, bins[start:])


@kernel
def _edges(start: int, end: int, level: int, index: int) -> tuple[int, int]:
    size = end - start
    return start + index * size // level, start + ((index + 1) * size + level - 1) // level


@kernel
def _pool_level(maxima: Maxima, box: Array, level: int, bins: Array) -> None:
    x1, y1, x2, y2 = box
    for i in range(level):
        top, bottom = _edges(y1, y2, level, i)
        for j in range(level):
            left, right = _edges(x1, x2, level, j)
            shorter = min(bottom - top, right - left)
            size = 2 if shorter >= 4 else 1 if shorter >= 2 else 0
            _cover(maxima[size], 1 << size, top, bottom, left, right, bins[i * level + j])


@kernel
def _fold_level(finer: Array, level: int, bins: Array) -> None:
    step = len(finer) // level
    for i in range(level):
        for j in range(level):
            _cover(finer, 1, i * step, (i + 1) * step, j * step, (j + 1) * step, bins[i * level + j])


@kernel
def _cover(maxima: Array, side: int, top: int, bottom: int, left: int, right: int, out: Array) -> None:
    """Write the maxima over a bin, from blocks of ``side`` cells; the last ones of a row or column start earlier."""
    first = maxima[top, left]
    for c in range(out.size):
        out[c] = first[c]
    for y in range(top, bottom, side):
        for x in range(left, right, side):
            values = maxima[min(y, bottom - side), min(x, right - side)]
            for c in range(out.size):
                out[c] = max(out[c], values[c])


def largest_cells(
    feature_map: NDArray[np.float32],
    cells: NDArray[np.int64],
    levels: Sequence[int] = PAPER_LEVELS,
    threads: int | None = None,
) -> NDArray[np.int64]:
    """Return where `spatial_pyramid_pool` finds its maxima, ``(R, n_bins, C)`` int64: ``y * w + x``, ties the first.

    Arguments and errors are those of `spatial_pyramid_pool`.
    """
    _check_cells(cells, feature_map.shape[:2])
    found = np.empty((len(cells), n_bins(levels), feature_map.shape[2]), np.int64)
    rows = np.array_split(np.arange(len(cells)), thread_count(threads))
    in_threads(
        lambda part: _find_largest(feature_map, cells, np.array(levels), found, part), rows, thread_count(threads)
    )
    return found


@kernel
def _find_largest(feature_map: Array, cells: Array, levels: Array, found: Array, rows: Array) -> None:
    n_channels = feature_map.shape[2]
    best = np.empty(n_channels, feature_map.dtype)
    for row in rows:
        x1, y1, x2, y2 = cells[row]
        bin_index = 0
        for level in levels:
            for i in range(level):
                top, bottom = _edges(y1, y2, level, i)
                for j in range(level):
                    left, right = _edges(x1, x2, level, j)
                    _find_in_bin(feature_map, top, bottom, left, right, best, found[row, bin_index])
                    bin_index += 1


@kernel
def _find_in_bin(feature_map: Array, top: int, bottom: int, left: int, right: int, best: Array, found: Array) -> None:
    best[:] = feature_map[top, left]
    found[:] = top * feature_map.shape[1] + left
    for y in range(top, bottom):
        for x in range(left, right):
            values = feature_map[y, x]
            for c in range(len(best)):
                if values[c] > best[c]:
                    best[c] = values[c]
                    found[c] = y * feature_map.shape[1] + x
