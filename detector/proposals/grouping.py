"""Group regions hierarchically: merge the two most similar neighbors until one region is left; rank the boxes.

Uijlings et al. 2013, algorithm 1. Neighbors are lists, so memory grows with the number of touching pairs, not with the
square of the regions. The heap holds one pair per region, its best with an older neighbor (one with a lower number); a
pair that surfaces after one of its regions was merged is replaced by the region's next best.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.proposals.regions import ONE
from detector.runtime.compiling import Array, kernel

MAX_GROWTH, MIN_GROWTH = 20, 100_000
"""Maximum similarities of a grouping: a multiple of those between initial regions, and no less than a number."""


class Regions(NamedTuple):
    """The regions of one segmentation."""

    sizes: NDArray[np.int32]
    """(R,) pixels."""
    boxes: NDArray[np.int32]
    """(R, 4) half-open."""
    pairs: NDArray[np.int32]
    """(P, 2) touching regions, lower number first, in ascending order."""
    colors: NDArray[np.uint16]
    """(R, C) histograms, each row summing to `regions.ONE`."""
    textures: NDArray[np.uint16]
    """(R, T) histograms, each row summing to `regions.ONE`."""


class Similarity(NamedTuple):
    """Weights of the sum of the paper's four similarities (section 3.2, a1 to a4): 0 or 1 each."""

    color: float
    texture: float
    size: float
    fill: float


def group(regions: Regions, similarity: Similarity) -> NDArray[np.int32]:
    """Merge regions until one is left.

    Returns the boxes (R - 1, 4) int32 of the merged regions, in the order of merging. Merged regions are numbered from
    R on; of equally similar pairs, the one with the lowest numbers is merged first. The histogram of a merged region is
    the mean of its parts', weighted by size and rounded.

    Time and memory are bounded: after `MAX_GROWTH` similarities for each that was there at first, merging ends, and the
    box of the whole image is the last. Photographs take at most 5. A region that touches thousands of others, such as
    the ground of a grid of dots, would take a similarity to each of them after each merge.
    """
    return group_with_parts(regions, similarity)[0]


def group_with_parts(regions: Regions, similarity: Similarity) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Merge regions as `group` does; return its boxes, and the two parts of each merged region.

    The parts are ``(R - 1, 2)`` int32, numbers of regions; fewer where the box of the whole image ends the merging.
    """
    n_regions = len(regions.sizes)
    if n_regions == 1:
        return np.empty((0, 4), np.int32), np.empty((0, 2), np.int32)
    colors = regions.colors if similarity.color else regions.colors[:, :0]
    textures = regions.textures if similarity.texture else regions.textures[:, :0]
    sizes, boxes, colors, textures = (_with_room(array) for array in (regions.sizes, regions.boxes, colors, textures))
    area = regions.sizes.sum()
    weights = np.array(similarity) / (ONE, ONE, area, area)
    both_ways = np.concatenate([regions.pairs, regions.pairs[:, ::-1]])
    neighbors = both_ways[np.argsort(both_ways[:, 0], kind="stable"), 1].astype(np.int64)
    ends = np.zeros(2 * n_regions - 1, np.int64)
    ends[:n_regions] = np.cumsum(np.bincount(both_ways[:, 0], minlength=n_regions))
    starts = np.zeros_like(ends)
    starts[1:n_regions] = ends[: n_regions - 1]
    limit = max(MAX_GROWTH * len(neighbors), MIN_GROWTH)
    parts = np.empty((n_regions - 1, 2), np.int32)
    stop = _merge(starts, ends, neighbors, weights, sizes, boxes, colors, textures, parts, limit)
    parts = parts[: stop - n_regions]
    if stop < len(boxes):
        boxes[stop, :2], boxes[stop, 2:] = regions.boxes[:, :2].min(0), regions.boxes[:, 2:].max(0)
        stop += 1
    return boxes[n_regions:stop], parts


def _with_room(array: Array) -> Array:
    """Return a copy with room for the rows that merging adds."""
    larger = np.zeros((2 * len(array) - 1, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


@kernel
def _intersection(a: Array, b: Array) -> np.uint32:
    total = np.uint32(0)
    for i in range(a.size):
        total += np.uint32(min(a[i], b[i]))
    return total


@kernel
def _similarity(a: int, b: int, weights: Array, sizes: Array, boxes: Array, colors: Array, textures: Array) -> float:
    """Return the sum of the four similarities, without the constants of size and fill."""
    size = np.int64(sizes[a]) + sizes[b]
    width = max(boxes[a, 2], boxes[b, 2]) - min(boxes[a, 0], boxes[b, 0])
    height = max(boxes[a, 3], boxes[b, 3]) - min(boxes[a, 1], boxes[b, 1])
    similarity = weights[0] * _intersection(colors[a], colors[b]) + weights[1] * _intersection(textures[a], textures[b])
    return similarity - weights[2] * size - weights[3] * (np.int64(width) * height - size)


@kernel
def _before(similarities: Array, pairs: Array, i: int, j: int) -> bool:
    if similarities[i] != similarities[j]:
        return similarities[i] > similarities[j]
    return pairs[i] < pairs[j]


@kernel
def _swap(similarities: Array, pairs: Array, i: int, j: int) -> None:
    similarities[i], similarities[j] = similarities[j], similarities[i]
    pairs[i], pairs[j] = pairs[j], pairs[i]


@kernel
def _sift_up(similarities: Array, pairs: Array, i: int) -> None:
    while i > 0 and _before(similarities, pairs, i, (i - 1) // 2):
        _swap(similarities, pairs, i, (i - 1) // 2)
        i = (i - 1) // 2


@kernel
def _pop(similarities: Array, pairs: Array, n_heap: int) -> int:
    """Remove and return the first pair of a heap of n_heap pairs."""
    first = pairs[0]
    n_heap -= 1
    similarities[0], pairs[0] = similarities[n_heap], pairs[n_heap]
    i = 0
    while 2 * i + 1 < n_heap:
        child = 2 * i + 1
        if child + 1 < n_heap and _before(similarities, pairs, child + 1, child):
            child += 1
        if not _before(similarities, pairs, child, i):
            break
        _swap(similarities, pairs, i, child)
        i = child
    return first


@kernel
def _mix(histograms: Array, a: int, b: int, merged: int, share: float) -> None:
    for i in range(histograms.shape[1]):
        histograms[merged, i] = np.uint16(histograms[a, i] * share + histograms[b, i] * (1 - share) + 0.5)


@kernel
def _combine(a: int, b: int, merged: int, sizes: Array, boxes: Array, colors: Array, textures: Array) -> None:
    sizes[merged] = sizes[a] + sizes[b]
    share = sizes[a] / sizes[merged]
    _mix(colors, a, b, merged, share)
    _mix(textures, a, b, merged, share)
    for i in range(2):
        boxes[merged, i] = min(boxes[a, i], boxes[b, i])
        boxes[merged, i + 2] = max(boxes[a, i + 2], boxes[b, i + 2])


@kernel
def _grow(array: Array) -> Array:
    larger = np.empty(2 * array.size, array.dtype)
    for i in range(array.size):  # numba would take seconds to compile the assignment of a slice
        larger[i] = array[i]
    return larger


@kernel
def _current(merged_into: Array, region: int) -> int:
    while merged_into[region] != region:
        merged_into[region] = merged_into[merged_into[region]]
        region = merged_into[region]
    return region


@kernel
def _wait_for_best(
    region: int,
    starts: Array,
    ends: Array,
    neighbors: Array,
    scores: Array,
    merged_into: Array,
    similarities: Array,
    pairs: Array,
    n_heap: int,
) -> int:
    """Push the most similar older neighbor of a region, if any is left, on the heap of n_heap pairs."""
    best = -1
    for i in range(starts[region], ends[region]):
        other = neighbors[i]
        if other >= region or merged_into[other] != other:
            continue
        if best < 0 or scores[i] > scores[best] or (scores[i] == scores[best] and other < neighbors[best]):
            best = i
    if best < 0:
        return n_heap
    similarities[n_heap] = scores[best]
    pairs[n_heap] = neighbors[best] * similarities.size + region
    _sift_up(similarities, pairs, n_heap)
    return n_heap + 1


@kernel
def _merge(
    starts: Array,
    ends: Array,
    neighbors: Array,
    weights: Array,
    sizes: Array,
    boxes: Array,
    colors: Array,
    textures: Array,
    parts: Array,
    max_neighbors: int,
) -> int:
    """Merge regions; return the number of regions and merged ones, less than all where there are more neighbors."""
    total = sizes.size
    n_regions = (total + 1) // 2
    n_neighbors = neighbors.size
    scores = np.empty(n_neighbors)
    merged_into = np.arange(total)
    last_seen_by = np.zeros(total, np.int64)
    similarities = np.empty(total)
    pairs = np.empty(total, np.int64)
    n_heap = 0
    for region in range(n_regions):
        for i in range(starts[region], ends[region]):
            if neighbors[i] < region:
                scores[i] = _similarity(neighbors[i], region, weights, sizes, boxes, colors, textures)
        n_heap = _wait_for_best(region, starts, ends, neighbors, scores, merged_into, similarities, pairs, n_heap)
    merged = n_regions
    while merged < total and n_neighbors <= max_neighbors:
        pair = _pop(similarities, pairs, n_heap)
        n_heap -= 1
        a, b = pair // total, pair % total
        if merged_into[b] != b:
            continue
        if merged_into[a] != a:
            n_heap = _wait_for_best(b, starts, ends, neighbors, scores, merged_into, similarities, pairs, n_heap)
            continue
        _combine(a, b, merged, sizes, boxes, colors, textures)
        parts[merged - n_regions, 0] = a
        parts[merged - n_regions, 1] = b
        merged_into[a] = merged
        merged_into[b] = merged
        starts[merged] = n_neighbors
        for part in (a, b):
            for i in range(starts[part], ends[part]):
                other = _current(merged_into, neighbors[i])
                if other == merged or last_seen_by[other] == merged:
                    continue
                last_seen_by[other] = merged
                if n_neighbors == neighbors.size:
                    neighbors, scores = _grow(neighbors), _grow(scores)
                neighbors[n_neighbors] = other
                scores[n_neighbors] = _similarity(other, merged, weights, sizes, boxes, colors, textures)
                n_neighbors += 1
        ends[merged] = n_neighbors
        n_heap = _wait_for_best(merged, starts, ends, neighbors, scores, merged_into, similarities, pairs, n_heap)
        merged += 1
    return merged


def random_order(ranks: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Order by rank in the hierarchy times a uniform random number (Uijlings et al. 2013, section 4.4)."""
    return np.argsort(ranks * np.random.default_rng(seed).random(len(ranks)), kind="stable")


def without_duplicates(boxes: NDArray[np.int32], height: int, width: int) -> NDArray[np.int64]:
    """Return the indices, ascending, of the boxes that no earlier box equals."""
    x1, y1, x2, y2 = boxes.astype(np.int64).T
    codes = (y1 * width + x1) * (height * width) + (y2 - 1) * width + x2 - 1
    return np.sort(np.unique(codes, return_index=True)[1])


def large_enough(boxes: NDArray[np.int32], min_side: int, height: int, width: int) -> NDArray[np.bool_]:
    """Return a mask of the boxes with no side below ``min_side`` pixels, and of the box of the whole image."""
    box_width, box_height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    whole = (box_width == width) & (box_height == height)
    return whole | ((box_width >= min_side) & (box_height >= min_side))


def near_duplicates_last(boxes: NDArray[np.int32], max_iou: float, enough: int) -> NDArray[np.int64]:
    """Return an order in which boxes that overlap an earlier one by more than ``max_iou`` come after all others.

    boxes: (R, 4), ranked. Both parts keep their order. Once ``enough`` boxes are in the first part, the remaining ones
    belong to the second.
    """
    sides = np.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], axis=1)
    # boxes that overlap more have widths and heights with a ratio above max_iou: they are in equal or neighboring cells
    # of this grid of log sizes; the allowance is for rounding
    cells = (np.log(sides) / (-np.log(max_iou) + 1e-6)).astype(np.int64) + 1
    first = _keep_distinct(boxes.astype(np.float32), cells, max_iou, enough)
    return np.concatenate([np.flatnonzero(first), np.flatnonzero(~first)])


@kernel
def _keep_distinct(boxes: Array, cells: Array, max_iou: float, enough: int) -> NDArray[np.bool_]:
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    keep = np.zeros(len(boxes), np.bool_)
    # the boxes kept, as a linked list per cell, -1 at its end
    newest = np.full((cells[:, 0].max() + 2, cells[:, 1].max() + 2), -1)
    before = np.empty(len(boxes), np.int64)
    n_kept = 0
    for i in range(len(boxes)):
        if n_kept == enough:
            break
        across, down = cells[i]
        distinct = True
        for cell in range(9):
            j = newest[across + cell // 3 - 1, down + cell % 3 - 1]
            while j >= 0 and distinct:
                width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
                height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
                union = areas[i] + areas[j] - width * height
                distinct = not (width > 0 and height > 0 and width * height > max_iou * union)
                j = before[j]
        if distinct:
            keep[i] = True
            before[i] = newest[across, down]
            newest[across, down] = i
            n_kept += 1
    return keep
