"""Check, measure and transform arrays of boxes: area, IoU, clipping, and the box deltas of R-CNN.

Boxes are ``(R, 4)`` float32 rows ``x1 y1 x2 y2`` in pixels, 0-based and half-open: the box of the whole image is
``0 0 width height`` and its area is ``width * height``. Nothing here adds 1 to a width.

Only `from_one_based` and `to_one_based` handle the corners of VOC's and MATLAB's files: 1-based, both ends inclusive.
x1 and y1 are greater by 1 there, x2 and y2 are the same; so widths, areas and IoU are the devkit's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float32]


def as_boxes(boxes: ArrayLike, name: str = "boxes") -> Boxes:
    """Return ``boxes`` as a checked ``(R, 4)`` float32 array.

    An empty sequence becomes ``(0, 4)``. Raises ValueError, with ``name`` in the message, for another shape,
    values that are not finite, or a box that ends before it starts.
    """
    with np.errstate(over="ignore"):  # numbers that are too large become infinite
        array = np.asarray(boxes, dtype=np.float32)
    if array.size == 0 and array.ndim <= 2:
        return np.zeros((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{name} must have shape (_, 4), but got {array.shape}")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(f"{name} must be finite, but row {row} is {array[row].tolist()}")
    backwards = (array[:, 2] < array[:, 0]) | (array[:, 3] < array[:, 1])
    if backwards.any():
        row = int(np.flatnonzero(backwards)[0])
        raise ValueError(f"{name} must have x1 <= x2 and y1 <= y2, but row {row} is {array[row].tolist()}")
    return array


_ONE_BASED = np.array([1.0, 1.0, 0.0, 0.0])


def from_one_based(corners: ArrayLike) -> NDArray[np.float64]:
    """Convert ``(..., 4)`` 1-based inclusive corners ``x1 y1 x2 y2`` to 0-based half-open ones, float64."""
    return np.asarray(corners, np.float64) - _ONE_BASED


def to_one_based(boxes: ArrayLike) -> NDArray[np.float64]:
    """Convert 0-based half-open boxes to 1-based inclusive corners; float64, so that adding 1 loses no digit."""
    return np.asarray(boxes, np.float64) + _ONE_BASED


def area(boxes: Boxes) -> NDArray[np.float32]:
    """Return the areas ``(R,)`` float32, in square pixels, of ``(R, 4)`` boxes."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def iou(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Return the IoU ``(len(a), len(b))`` float32 of all pairs of boxes; 0 where both areas are 0."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    intersection = sides[..., 0] * sides[..., 1]
    union = area(a)[:, None] + area(b)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def clip(boxes: Boxes, height: int, width: int) -> Boxes:
    """Return ``(..., 4)`` boxes with every corner moved inside the image of ``height`` x ``width`` pixels."""
    limits = np.array([width, height, width, height], np.float32)
    return np.clip(boxes, 0, limits).astype(np.float32, copy=False)


def flip(boxes: Boxes, width: int) -> Boxes:
    """Mirror ``(..., 4)`` boxes horizontally, in an image ``width`` pixels wide."""
    flipped: Boxes = np.stack([width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]], axis=-1)
    return flipped


def encode_deltas(boxes: Boxes, targets: Boxes) -> NDArray[np.float32]:
    """Return the deltas ``(R, 4)`` float32 from ``boxes`` to ``targets``, both ``(R, 4)`` of positive width and height.

    A row is the shift of the center in x and y, in units of the box's sides, and the log ratios of widths and heights:
    the parametrization of R-CNN, appendix C, which SPP-net adopts.
    """
    sides, centers = _sides_and_centers(boxes)
    target_sides, target_centers = _sides_and_centers(targets)
    deltas = np.concatenate([(target_centers - centers) / sides, np.log(target_sides / sides)], axis=-1)
    return deltas.astype(np.float32)


# a side grows or shrinks by at most 16, so that an extrapolating regressor cannot overflow exp()
_MAX_LOG_RATIO = float(np.log(16.0))


def decode_deltas(boxes: Boxes, deltas: NDArray[np.float32]) -> Boxes:
    """Apply ``(..., 4)`` deltas to ``(..., 4)`` boxes; the inverse of `encode_deltas`. Shapes broadcast."""
    sides, centers = _sides_and_centers(boxes)
    new_centers = centers + deltas[..., :2] * sides
    new_sides = sides * np.exp(np.clip(deltas[..., 2:], -_MAX_LOG_RATIO, _MAX_LOG_RATIO))
    corners = [new_centers - new_sides / 2, new_centers + new_sides / 2]
    return np.concatenate(corners, axis=-1).astype(np.float32)


def _sides_and_centers(boxes: Boxes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return sides, boxes[..., :2] + sides * np.float32(0.5)
