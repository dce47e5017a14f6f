"""Sizes, boxes and neighbours of the regions of a segmentation."""

import numpy as np
from numpy.typing import NDArray

from detector.runtime.compiling import Array, kernel


def region_extents(labels: NDArray[np.int32], n_regions: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Sizes in pixels (R,) int32 and half-open boxes (R, 4) int32 of the regions in labels (H, W) int32."""
    sizes = np.zeros(n_regions, np.int32)
    boxes = np.empty((n_regions, 4), np.int32)
    _measure(labels, sizes, boxes)
    return sizes, boxes


def neighbour_pairs(labels: NDArray[np.int32], n_regions: int) -> NDArray[np.int32]:
    """Pairs of regions that touch by a side or a corner: (P, 2) int32, lower number first, ascending."""
    codes = _pair_codes(labels, n_regions)
    codes = np.sort(codes[codes >= 0])
    return np.column_stack(np.divmod(codes, n_regions)).astype(np.int32)


@kernel
def _measure(labels: Array, sizes: Array, boxes: Array) -> None:
    height, width = labels.shape
    boxes[:, :2] = max(width, height)
    boxes[:, 2:] = 0
    for y in range(height):
        start = 0
        for x in range(1, width + 1):
            if x < width and labels[y, x] == labels[y, start]:
                continue
            region = np.uint32(labels[y, start])
            sizes[region] += x - start
            boxes[region, 0] = min(boxes[region, 0], start)
            boxes[region, 1] = min(boxes[region, 1], y)
            boxes[region, 2] = max(boxes[region, 2], x)
            boxes[region, 3] = y + 1
            start = x


@kernel
def _insert(table: Array, code: int) -> bool:
    """Insert a code into a hash table of a power-of-two size, -1 for empty; say whether it was new."""
    slot = (np.uint64(code) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)) & np.uint64(table.size - 1)
    while table[slot] != code:
        if table[slot] == -1:
            table[slot] = code
            return True
        slot = (slot + np.uint64(1)) & np.uint64(table.size - 1)
    return False


@kernel
def _enlarge(table: Array) -> Array:
    larger = np.full(4 * table.size, -1, np.int64)
    for code in table:
        if code != -1:
            _insert(larger, code)
    return larger


@kernel
def _pair_codes(labels: Array, n_regions: int) -> Array:
    """Codes lower * n_regions + higher of touching regions, each once, among others of -1."""
    height, width = labels.shape
    table = np.full(1024, -1, np.int64)
    n_pairs = 0
    for y in range(height):
        here = labels[y]
        below = labels[min(y + 1, height - 1)]
        for x in range(width):
            right = min(x + 1, width - 1)
            if (here[x] == here[right]) & (here[x] == below[x]) & (here[x] == below[right]):
                continue
            for a, b in (
                (here[x], here[right]),
                (here[x], below[x]),
                (here[x], below[right]),
                (here[right], below[x]),
            ):
                if a != b and _insert(table, np.int64(min(a, b)) * n_regions + max(a, b)):
                    n_pairs += 1
            if 2 * n_pairs > table.size:
                table = _enlarge(table)
    return table
