"""From the boxes of all groupings to one ranked list without duplicates."""

import numpy as np
from numpy.typing import NDArray

from detector.compiling import kernel


def random_order(ranks: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Order by rank in the hierarchy times a uniform random number (Uijlings et al. 2013, section 4.4)."""
    return np.argsort(ranks * np.random.default_rng(seed).random(len(ranks)), kind="stable")


def without_duplicates(boxes: NDArray[np.int32], height: int, width: int) -> NDArray[np.int64]:
    """Indices, ascending, of the boxes that no earlier box equals."""
    x1, y1, x2, y2 = boxes.astype(np.int64).T
    codes = (y1 * width + x1) * (height * width) + (y2 - 1) * width + x2 - 1
    return np.sort(np.unique(codes, return_index=True)[1])


def large_enough(boxes: NDArray[np.int32], min_side: int, height: int, width: int) -> NDArray[np.bool_]:
    """Mask of the boxes with no side below `min_side` pixels; the box of the whole picture always is in."""
    box_width, box_height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    whole = (box_width == width) & (box_height == height)
    return whole | ((box_width >= min_side) & (box_height >= min_side))


def near_duplicates_last(boxes: NDArray[np.int32], max_iou: float, enough: int) -> NDArray[np.int64]:
    """Order in which boxes that overlap an earlier one by more than `max_iou` come after all others.

    boxes: (R, 4), ranked. Both parts keep their order. Once `enough` boxes are in the first part, no more are
    looked at, and those left belong to the second.
    """
    first = _keep_distinct(boxes.astype(np.float32), max_iou, enough)
    return np.concatenate([np.flatnonzero(first), np.flatnonzero(~first)])


@kernel
def _keep_distinct(boxes: NDArray[np.float32], max_iou: float, enough: int) -> NDArray[np.bool_]:
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    keep = np.zeros(len(boxes), np.bool_)
    kept = np.empty(len(boxes), np.int64)
    n_kept = 0
    for i in range(len(boxes)):
        if n_kept == enough:
            break
        distinct = True
        for j in kept[:n_kept]:
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            if width > 0 and height > 0 and width * height > max_iou * (areas[i] + areas[j] - width * height):
                distinct = False
                break
        if distinct:
            keep[i] = True
            kept[n_kept] = i
            n_kept += 1
    return keep
