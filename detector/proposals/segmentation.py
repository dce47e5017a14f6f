"""Graph-based segmentation (Felzenszwalb & Huttenlocher, IJCV 2004), exact for whole-numbered edge weights.

Three facts make it fast and leave the result as it is:

- Weights are whole numbers ("levels"), so edges are sorted by counting.
- An edge that both of its pixels have as their first of all meets two single pixels whenever its turn comes,
  so it can be decided at once, in memory order.
- A component that once refuses an edge refuses every later one: later edges weigh more, and it cannot grow
  any more. So sweeps in between drop all edges that lie inside one component or touch a finished one.
"""

import numpy as np
from numpy.typing import NDArray

from detector.proposals.pixel_graph import LEVELS_PER_UNIT, NO_EDGE, PixelGraph, edge_ends, sort_edges
from detector.runtime.compiling import Array, kernel

SWEEP_SHARE = 0.5
"""Share of the edges left that are joined before the next sweep."""

LIMIT, SIZE = 0, 1
"""Columns of the state of a component, kept at its root: the largest level it takes, and its pixels."""

FEW_EDGES = 20_000
"""So few edges are joined without a sweep."""


def segment(graph: PixelGraph, k: float, min_size: int) -> tuple[NDArray[np.int32], int]:
    """Partition an image into regions.

    k: the paper's scale of observation, in units of colour distance: larger k, larger regions. min_size:
    pixels; a smaller component is joined to a neighbour afterwards, over its lightest edges first, as in the
    authors' code. Returns region numbers (H * W,) int32, ascending by each region's first pixel, and the
    number of regions.
    """
    n_pixels = graph.levels.shape[1]
    k_levels = int(k * LEVELS_PER_UNIT)
    # What a component's size adds to its limit; the last entry stands for all larger sizes.
    slack = (k_levels // np.maximum(np.arange(min(k_levels + 1, n_pixels) + 1), 1)).astype(np.int32)
    parent = np.arange(n_pixels, dtype=np.uint32)
    state = np.empty((n_pixels, 2), np.int32)
    state[:] = k_levels, 1
    labels = np.empty(n_pixels, np.int32)
    _join_mutual(graph.offsets, graph.mutual, slack, parent, state)
    _join_similar(graph.offsets, graph.light, slack, parent, state)
    _label_open(parent, state, graph.light_limit, labels)
    levels = np.empty_like(graph.levels)
    _open_levels(graph.levels, graph.offsets, labels, graph.light_limit, levels)
    edges = sort_edges(levels)
    while len(edges):
        n_next = int(SWEEP_SHARE * len(edges)) if len(edges) > FEW_EDGES else len(edges)
        _join_similar(graph.offsets, edges[:n_next], slack, parent, state)
        edges = edges[n_next:]
        if len(edges):
            _label_open(parent, state, int(edges[0]) >> 32, labels)
            edges = _open_edges(edges, graph.offsets, labels)
    _label_small(parent, state, min_size, labels)
    _small_levels(graph.levels, graph.offsets, parent, labels, levels)
    edges = sort_edges(levels)
    _join_small(graph.offsets, edges, min_size, parent, state)
    return labels, _number_regions(parent, labels)


@kernel
def _open_levels(levels: Array, offsets: Array, labels: Array, limit: int, opened: Array) -> None:
    """Copy to `opened` the levels from `limit` on of edges between open components; NO_EDGE for others."""
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
    """Copy to `left` the levels of edges from a small component to another; NO_EDGE for others."""
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
    # Two steps without a branch reach the root nearly always; branches that are hard to predict cost more.
    root = parent[parent[pixel]]
    while parent[root] != root:
        root = parent[root]
    parent[pixel] = root
    return root


@kernel
def _join_mutual(offsets: Array, edges: Array, slack: Array, parent: Array, state: Array) -> None:
    for edge in edges:
        level = np.int32(edge >> np.uint64(32))
        if level <= slack[1]:
            pixel, other = edge_ends(edge, offsets)
            parent[other] = pixel
            state[pixel, SIZE] = 2
            state[pixel, LIMIT] = level + slack[2 if slack.size > 2 else 1]


@kernel
def _join_similar(offsets: Array, edges: Array, slack: Array, parent: Array, state: Array) -> None:
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
def _join_small(offsets: Array, edges: Array, min_size: int, parent: Array, state: Array) -> None:
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
    """Number pixels by their component's root, or by -1 where that takes no edge from `level` on."""
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
        # The root is the first pixel of its component, and no pixel comes before its parent.
        if parent[pixel] == pixel:
            labels[pixel] = n_regions
            n_regions += 1
        else:
            labels[pixel] = labels[parent[pixel]]
    return n_regions
