"""From the boxes of all groupings to one ranked list without duplicates."""

import numpy as np
from numpy.typing import NDArray

from detector.runtime.compiling import Array, kernel


def random_order(ranks: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Order by rank in the hierarchy times a uniform random number (Uijlings et al. 2013, section 4.4)."""
    return np.argsort(ranks * np.random.default_rng(seed).random(len(ranks)), kind="stable")


def without_duplicates(boxes: NDArray[np.int32], height: int, width: int) -> NDArray[np.int64]:
    """Indices, ascending, of the boxes that no earlier box equals."""
    x1, y1, x2, y2 = boxes.astype(np.int64).T
    codes = (y1 * width + x1) * (height * width) + (y2 - 1) * width + x2 - 1
    return np.sort(np.unique(codes, return_index=True)[1])


def large_enough(boxes: NDArray[np.int32], min_side: int, height: int, width: int) -> NDArray[np.bool_]:
    """Mask of the boxes with no side below `min_side` pixels; the box of the whole image always is in."""
    box_width, box_height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    whole = (box_width == width) & (box_height == height)
    return whole | ((box_width >= min_side) & (box_height >= min_side))


def near_duplicates_last(boxes: NDArray[np.int32], max_iou: float, enough: int) -> NDArray[np.int64]:
    """Order in which boxes that overlap an earlier one by more than `max_iou` come after all others.

    boxes: (R, 4), ranked. Both parts keep their order. Once `enough` boxes are in the first part, no more are
    looked at, and those left belong to the second.
    """
    sides = np.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], axis=1)
    # Of boxes that overlap so much, the width of the one is more than max_iou of the other's, and so is the
    # height: they lie in the same or in neighbouring drawers. The allowance is for rounding.
    drawers = (np.log(sides) / (-np.log(max_iou) + 1e-6)).astype(np.int64) + 1
    first = _keep_distinct(boxes.astype(np.float32), drawers, max_iou, enough)
    return np.concatenate([np.flatnonzero(first), np.flatnonzero(~first)])


@kernel
def _keep_distinct(boxes: Array, drawers: Array, max_iou: float, enough: int) -> NDArray[np.bool_]:
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    keep = np.zeros(len(boxes), np.bool_)
    # The boxes kept, as a chain for each drawer, -1 at its end.
    newest = np.full((drawers[:, 0].max() + 2, drawers[:, 1].max() + 2), -1)
    before = np.empty(len(boxes), np.int64)
    n_kept = 0
    for i in range(len(boxes)):
        if n_kept == enough:
            break
        across, down = drawers[i]
        distinct = True
        for drawer in range(9):
            j = newest[across + drawer // 3 - 1, down + drawer % 3 - 1]
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
