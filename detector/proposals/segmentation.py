"""Segment an image into regions by its graph of pixels (Felzenszwalb & Huttenlocher, IJCV 2004).

Exact for integer edge weights. Three facts make it fast without changing the result:

- Weights are integers ("levels"), so edges are sorted by counting.
- An edge that is the first of both of its pixels always meets two single pixels, so it is decided at once, in memory
  order.
- A component that refuses an edge refuses every later one: later edges weigh more, and the component cannot grow any
  more. So sweeps in between drop all edges that lie inside one component or touch a finished one.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.runtime.compiling import Array, kernel

LEVELS_PER_UNIT = 16
"""Levels per unit of color distance, channels in 0..255."""

N_LEVELS = int(np.sqrt(3) * 255 * LEVELS_PER_UNIT) + 1
NO_EDGE = 65535
LIGHT_SHARE = 0.5
"""Share of all edges that are sorted once, for all segmentations of the image."""


class PixelGraph(NamedTuple):
    """Graph of the pixels of an image, eight neighbors each.

    Edges are ordered by level, then by first pixel in row order, then by direction: right, lower left, below,
    lower right. An edge is packed into one number: level, first pixel, direction.
    """

    levels: NDArray[np.uint16]
    """(4, H * W) color distance to the neighbor in each direction, rounded down; NO_EDGE outside."""
    offsets: NDArray[np.uint32]
    """(4,) distance in row order to the neighbor in each direction."""
    mutual: NDArray[np.uint64]
    """Edges that are the first of both of their pixels, in no particular order."""
    light: NDArray[np.uint64]
    """All other edges below level `light_limit`, in order."""
    light_limit: int


def pixel_graph(image: NDArray[np.uint8], sigma: float = 0.8) -> PixelGraph:
    """Smooth an (H, W, 3) uint8 image by a Gaussian of ``sigma`` pixels (0: not at all) and measure its edges.

    The weight of an edge is the Euclidean distance of the two colors, as in the paper.
    """
    height, width = image.shape[:2]
    smooth = image.astype(np.float32)
    if sigma > 0:
        side = 2 * int(np.ceil(4 * sigma)) + 1
        smooth = cv2.GaussianBlur(smooth, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    by_row = np.empty((4, height, width), np.uint16)
    first, second, third = cv2.split(smooth)
    _measure_edges(first, second, third, by_row)
    levels = by_row.reshape(4, -1)
    offsets = np.array([1, width - 1, width, width + 1], np.uint32)
    mutual = np.empty(levels.shape[1] // 2 + 1, np.uint64)
    mutual = mutual[: _mutual_edges(levels, offsets, mutual)].copy()
    reached = np.cumsum(_count_levels(levels)[:N_LEVELS])
    light_limit = int(np.searchsorted(reached, LIGHT_SHARE * reached[-1])) + 1
    light = np.empty_like(levels)
    _light_levels(levels, mutual, light_limit, light)
    return PixelGraph(levels, offsets, mutual, sort_edges(light), light_limit)


def sort_edges(levels: NDArray[np.uint16]) -> NDArray[np.uint64]:
    """Sort all edges with a level other than NO_EDGE, packed: a stable counting sort.

    Large arrays are allocated by numpy, here and in `segment`, and not inside compiled code, since numpy requests large
    memory pages, which are several times faster to get.
    """
    found = np.empty(levels.size + 1, np.uint32)
    found = found[: _find_edges(levels, found)]
    ordered = np.empty(found.size, np.uint64)
    _order_edges(levels, found, ordered)
    return ordered


@kernel
def _measure_edges(first: Array, second: Array, third: Array, levels: Array) -> None:
    height, width = first.shape
    levels[:] = NO_EDGE
    for direction in range(4):
        down = 0 if direction == 0 else 1
        across = (1, -1, 0, 1)[direction]
        start = 1 if across < 0 else 0
        stop = width - 1 if across > 0 else width
        for y in range(height - down):
            for x in range(start, stop):
                a = first[y, x] - first[y + down, x + across]
                b = second[y, x] - second[y + down, x + across]
                c = third[y, x] - third[y + down, x + across]
                levels[direction, y, x] = np.uint16(np.sqrt(a * a + b * b + c * c) * np.float32(LEVELS_PER_UNIT))


@kernel
def _count_levels(levels: Array) -> Array:
    counts = np.zeros(NO_EDGE + 1, np.uint32)
    for direction in range(4):
        for level in levels[direction]:
            counts[level] += np.uint32(1)
    return counts


@kernel
def _pack(level: Any, pixel: Any, direction: Any) -> np.uint64:
    return np.uint64(level) << np.uint64(32) | np.uint64(4 * pixel + direction)


@kernel
def edge_ends(edge: np.uint64, offsets: Array) -> tuple[np.uint32, np.uint32]:
    pixel = np.uint32(edge) >> np.uint32(2)
    return pixel, np.uint32(pixel + offsets[np.uint32(edge) & np.uint32(3)])


@kernel
def _mutual_edges(levels: Array, offsets: Array, mutual: Array) -> np.uint64:
    n_pixels = levels.shape[1]
    # the first edge of every pixel as one number: its level, and its position in the order of eight edges of that
    # level, which is up left, up, up right, left, right, down left, down, down right
    first = np.full(n_pixels, NO_EDGE, np.uint16)
    for direction in range(4):
        row = levels[direction]
        there = first[offsets[direction] :]
        for pixel in range(there.size):
            rank = min(row[pixel], np.uint16(8191)) * np.uint16(8) + np.uint16(3 - direction)
            there[pixel] = min(there[pixel], np.uint16(rank))
        for pixel in range(n_pixels):
            rank = min(row[pixel], np.uint16(8191)) * np.uint16(8) + np.uint16(4 + direction)
            first[pixel] = min(first[pixel], np.uint16(rank))
    n_mutual = np.uint64(0)
    for pixel in range(n_pixels):
        rank = first[pixel]
        towards = np.uint32(rank) & np.uint32(3)
        if rank & 4 and rank < 8191 * 8 and first[pixel + offsets[towards]] == rank - 1 - 2 * towards:
            mutual[n_mutual] = _pack(rank >> 3, pixel, towards)
            n_mutual += np.uint64(1)
    return n_mutual


@kernel
def _light_levels(levels: Array, mutual: Array, limit: int, light: Array) -> None:
    """Copy the levels to ``light``, with NO_EDGE for mutual edges and for levels from ``limit`` on."""
    for direction in range(4):
        for pixel in range(levels.shape[1]):
            level = levels[direction, pixel]
            light[direction, pixel] = level if level < limit else NO_EDGE
    for edge in mutual:
        light[np.uint32(edge) & np.uint32(3), np.uint32(edge) >> np.uint32(2)] = NO_EDGE


@kernel
def _find_edges(levels: Array, found: Array) -> np.uint64:
    n_found = np.uint64(0)
    for pixel in range(levels.shape[1]):
        for direction in range(4):
            found[n_found] = 4 * pixel + direction
            n_found += np.uint64(levels[direction, pixel] != NO_EDGE)
    return n_found


@kernel
def _order_edges(levels: Array, found: Array, ordered: Array) -> None:
    counts = np.zeros(N_LEVELS + 1, np.uint32)
    for edge in found:
        counts[levels[edge & np.uint32(3), edge >> np.uint32(2)] + 1] += np.uint32(1)
    ends = np.cumsum(counts)
    for edge in found:
        level = levels[edge & np.uint32(3), edge >> np.uint32(2)]
        ordered[ends[level]] = np.uint64(level) << np.uint64(32) | np.uint64(edge)
        ends[level] += np.uint64(1)


SWEEP_SHARE = 0.5
"""Share of the remaining edges that are merged before the next sweep."""

LIMIT, SIZE = 0, 1
"""Columns of the state of a component, stored at its root: the largest level it accepts, and its pixels."""

FEW_EDGES = 20_000
"""Number of edges below which no further sweep is made."""


def segment(graph: PixelGraph, k: float, min_size: int) -> tuple[NDArray[np.int32], int]:
    """Partition an image into regions.

    k: the paper's scale of observation, in units of color distance: larger k, larger regions.
    min_size: pixels; smaller components are merged with a neighbor afterwards, over their lightest edges first, as in
        the authors' code.
    Returns region numbers (H * W,) int32, ascending by the first pixel of each region, and the number of regions.
    """
    n_pixels = graph.levels.shape[1]
    k_levels = int(k * LEVELS_PER_UNIT)
    # what the size of a component adds to its limit; the last entry is for all larger sizes
    slack = (k_levels // np.maximum(np.arange(min(k_levels + 1, n_pixels) + 1), 1)).astype(np.int32)
    parent = np.arange(n_pixels, dtype=np.uint32)
    state = np.empty((n_pixels, 2), np.int32)
    state[:] = k_levels, 1
    labels = np.empty(n_pixels, np.int32)
    _merge_mutual(graph.offsets, graph.mutual, slack, parent, state)
    _merge_similar(graph.offsets, graph.light, slack, parent, state)
    _label_open(parent, state, graph.light_limit, labels)
    levels = np.empty_like(graph.levels)
    _open_levels(graph.levels, graph.offsets, labels, graph.light_limit, levels)
    edges = sort_edges(levels)
    while len(edges):
        n_next = int(SWEEP_SHARE * len(edges)) if len(edges) > FEW_EDGES else len(edges)
        _merge_similar(graph.offsets, edges[:n_next], slack, parent, state)
        edges = edges[n_next:]
        if len(edges):
            _label_open(parent, state, int(edges[0]) >> 32, labels)
            edges = _open_edges(edges, graph.offsets, labels)
    _label_small(parent, state, min_size, labels)
    _small_levels(graph.levels, graph.offsets, parent, labels, levels)
    edges = sort_edges(levels)
    _merge_small(graph.offsets, edges, min_size, parent, state)
    return labels, _number_regions(parent, labels)


@kernel
def _open_levels(levels: Array, offsets: Array, labels: Array, limit: int, opened: Array) -> None:
    """Copy to ``opened`` the levels from ``limit`` on of edges between open components; NO_EDGE for others."""
    opened[:] = NO_EDGE
    for direction in range(4):
        row = levels[direction]
        out = opened[direction]
        there = labels[offsets[direction] :]
        for pixel in range(there.size):
            a, b = labels[pixel], there[pixel]
            out[pixel] = row[pixel] if (row[pixel] >= limit) & (a != b) & ((a | b) >= 0) else NO_EDGE


@kernel
def _small_levels(levels: Array, offsets: Array, parent: Array, small: Array, left: Array) -> None:
    """Copy to ``left`` the levels of edges from a small component to another; NO_EDGE for others."""
    left[:] = NO_EDGE
    for direction in range(4):
        row = levels[direction]
        out = left[direction]
        there = parent[offsets[direction] :]
        small_there = small[offsets[direction] :]
        for pixel in range(there.size):
            is_small = (small[pixel] | small_there[pixel]) != 0
            out[pixel] = row[pixel] if is_small & (parent[pixel] != there[pixel]) else NO_EDGE


@kernel
def _open_edges(edges: Array, offsets: Array, labels: Array) -> Array:
    """Keep, in place, the edges between two open components."""
    n_edges = np.uint64(0)
    for edge in edges:
        pixel, other = edge_ends(edge, offsets)
        a, b = labels[pixel], labels[other]
        edges[n_edges] = edge
        n_edges += np.uint64((a != b) & ((a | b) >= 0))
    return edges[:n_edges]


@kernel
def _find(parent: Array, pixel: np.uint32) -> np.uint32:
    # two steps without a branch reach the root nearly always; branches that are hard to predict cost more
    root = parent[parent[pixel]]
    while parent[root] != root:
        root = parent[root]
    parent[pixel] = root
    return root


@kernel
def _merge_mutual(offsets: Array, edges: Array, slack: Array, parent: Array, state: Array) -> None:
    for edge in edges:
        level = np.int32(edge >> np.uint64(32))
        if level <= slack[1]:
            pixel, other = edge_ends(edge, offsets)
            parent[other] = pixel
            state[pixel, SIZE] = 2
            state[pixel, LIMIT] = level + slack[2 if slack.size > 2 else 1]


@kernel
def _merge_similar(offsets: Array, edges: Array, slack: Array, parent: Array, state: Array) -> None:
    for edge in edges:
        pixel, other = edge_ends(edge, offsets)
        a = _find(parent, pixel)
        b = _find(parent, other)
        level = np.int32(edge >> np.uint64(32))
        if (a != b) & (level <= state[a, LIMIT]) & (level <= state[b, LIMIT]):
            if b < a:
                a, b = b, a
            parent[b] = a
            state[a, SIZE] += state[b, SIZE]
            state[a, LIMIT] = level + slack[np.uint32(min(state[a, SIZE], slack.size - 1))]


@kernel
def _merge_small(offsets: Array, edges: Array, min_size: int, parent: Array, state: Array) -> None:
    for edge in edges:
        pixel, other = edge_ends(edge, offsets)
        a = _find(parent, pixel)
        b = _find(parent, other)
        if (a != b) & ((state[a, SIZE] < min_size) | (state[b, SIZE] < min_size)):
            if b < a:
                a, b = b, a
            parent[b] = a
            state[a, SIZE] += state[b, SIZE]


@kernel
def _label_open(parent: Array, state: Array, level: int, labels: Array) -> None:
    """Label pixels by the root of their component, or by -1 where it accepts no edge from ``level`` on."""
    for pixel in range(parent.size):
        root = parent[parent[pixel]]
        parent[pixel] = root
        labels[pixel] = root if state[root, LIMIT] >= level else -1


@kernel
def _label_small(parent: Array, state: Array, min_size: int, labels: Array) -> None:
    for pixel in range(parent.size):
        root = parent[parent[pixel]]
        parent[pixel] = root
        labels[pixel] = state[root, SIZE] < min_size


@kernel
def _number_regions(parent: Array, labels: Array) -> int:
    n_regions = 0
    for pixel in range(parent.size):
        # the root is the first pixel of its component, and no pixel comes before its parent
        if parent[pixel] == pixel:
            labels[pixel] = n_regions
            n_regions += 1
        else:
            labels[pixel] = labels[parent[pixel]]
    return n_regions
