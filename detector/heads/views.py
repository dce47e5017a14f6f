"""Join the detections of the views of an image, the whole image and its tiles, without cutting objects at borders.

A box that touches an inner border of its tile may be a part of an object. It loses against a box of the whole object
from another view, whatever their scores; the better score is that of the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, area, iou
from detector.detections import Detections
from detector.heads.suppression import nms
from detector.tiles import Window, moved

_BORDER = 0.01
"""Fraction of a tile's side within which a box touches a border; box regression is not exact to the pixel."""
_SAME_PART = 0.5
"""Minimum IoU of a box at a border with the visible part of a whole one of the same object."""
_INSIDE = (0.9, 0.5)
"""Minimum fractions of a whole box, and of one at a border, inside a larger object that they are a part of."""
_FACING = 0.5
"""Minimum IoU, across the border, of the two parts of an object that no view shows whole."""


@dataclass
class _Views:
    """Boxes ``(N, 4)`` of one class from all views, with their scores ``(N,)`` and the windows ``(N, 4)`` of the views.

    cut: ``(N, 4)``, the sides at which a box touches an inner border.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    windows: Boxes
    cut: NDArray[np.bool_]

    @property
    def whole(self) -> NDArray[np.bool_]:
        return np.logical_not(self.cut.any(axis=1))

    def take(self, rows: NDArray[np.int64]) -> _Views:
        return _Views(self.boxes[rows], self.scores[rows], self.windows[rows], self.cut[rows])


def join_views(whole: Detections, tiles: Sequence[tuple[Window, Detections]], nms_iou: float, limit: int) -> Detections:
    """Return the detections of an image from those in the ``whole`` of it and in each of its tiles.

    Boxes of tiles are in pixels of the tile. Each class is suppressed by itself, with ``nms_iou``; the ``limit`` best
    detections are kept. Probabilities stay with their scores.
    """
    parts = [whole, *(replace(found, boxes=moved(found.boxes, window)) for window, found in tiles)]
    assert whole.image_size is not None
    image = Window(0, 0, *whole.image_size[::-1])
    windows = np.repeat(np.array([image, *(window for window, _ in tiles)], np.float32), [*map(len, parts)], axis=0)
    boxes, labels, scores = (np.concatenate([getattr(each, name) for each in parts]) for name in _COLUMNS)
    views = _Views(boxes, scores, windows, _at_inner_borders(boxes, windows, image))
    kept: list[Detections] = []
    probabilities = None if whole.probabilities is None else np.concatenate([each.probabilities for each in parts])
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        joined = _without_duplicates(_joined(_without_parts(views.take(rows))), nms_iou)
        found = Detections(joined.boxes, np.full(len(joined.boxes), label), joined.scores, whole.class_names)
        if probabilities is not None:
            # a score comes from a row of the class
            order = np.argsort(scores[rows], kind="stable")
            at = order[np.searchsorted(scores[rows][order], found.scores)]
            found = replace(found, probabilities=probabilities[rows][at])
        kept.append(found)
    return replace(_concatenated(kept, whole).top(limit), image_size=whole.image_size)


_COLUMNS = ("boxes", "labels", "scores")


def _concatenated(parts: Sequence[Detections], example: Detections) -> Detections:
    """Return detections of different classes of one model in one table."""
    if not parts:
        return example[:0]
    names = (*_COLUMNS, *(() if example.probabilities is None else ("probabilities",)))
    columns: dict[str, Any] = {name: np.concatenate([getattr(each, name) for each in parts]) for name in names}
    return Detections(**columns, class_names=example.class_names)


def _at_inner_borders(boxes: Boxes, windows: Boxes, image: Window) -> NDArray[np.bool_]:
    """Return the sides ``(N, 4)`` of boxes that touch a border of their window that is none of the image."""
    sides = np.tile(windows[:, 2:] - windows[:, :2], 2)
    inner = np.abs(windows - np.array(image, np.float32)) >= 1
    touching: NDArray[np.bool_] = np.abs(boxes - windows) <= np.maximum(1, _BORDER * sides)
    return inner & touching


def _without_parts(views: _Views) -> _Views:
    """Drop boxes of parts of objects that another view shows whole; these take the better score of both."""
    whole, n = np.flatnonzero(views.whole), len(views.boxes)
    if not len(whole):
        return views
    objects, scores = views.take(whole), views.scores.copy()
    kept = np.ones(n, np.bool_)
    inside = _intersections(views.boxes, objects.boxes) / area(views.boxes).clip(1e-9)[:, None]
    # what a window shows of each object
    shown = np.concatenate(
        [
            np.maximum(views.windows[:, None, :2], objects.boxes[None, :, :2]),
            np.minimum(views.windows[:, None, 2:], objects.boxes[None, :, 2:]),
        ],
        axis=2,
    )
    partly = (shown != objects.boxes[None]).any(axis=2)
    for row in range(n):
        cut = not views.whole[row]
        visible = np.maximum(shown[row], np.tile(shown[row, :, :2], 2))
        same = iou(views.boxes[row : row + 1], visible)[0] * (cut & partly[row])
        best = int(same.argmax())
        larger = partly[row] & (inside[row] >= _INSIDE[cut]) & (objects.scores >= views.scores[row])
        if same[best] >= _SAME_PART:
            scores[whole[best]] = max(scores[whole[best]], views.scores[row])
            kept[row] = False
        elif larger.any():
            kept[row] = False
    return replace(views, scores=scores).take(np.flatnonzero(kept))


def _joined(views: _Views) -> _Views:
    """Join boxes on both sides of a border between tiles, where no view shows the whole object."""
    while len(pairs := _facing(views)):
        first, second, axis = (int(each) for each in pairs[np.argmax(views.scores[pairs[:, :2]].max(axis=1))])
        a, b = views.boxes[first], views.boxes[second]
        boxes, scores, cut = views.boxes.copy(), views.scores.copy(), views.cut.copy()
        boxes[second] = [*np.minimum(a[:2], b[:2]), *np.maximum(a[2:], b[2:])]
        scores[second] = max(scores[first], scores[second])
        cut[second] |= cut[first]
        cut[second, axis], cut[second, axis + 2] = views.cut[first, axis], views.cut[second, axis + 2]
        views = _Views(boxes, scores, views.windows, cut).take(np.delete(np.arange(len(boxes)), first))
    return views


def _facing(views: _Views) -> NDArray[np.int64]:
    """Return rows ``(P, 3)``: the first and the second part of an object, and the axis along which it is cut."""
    found = [np.zeros((0, 3), np.int64)]
    for axis in (0, 1):
        first, second = np.flatnonzero(views.cut[:, axis + 2]), np.flatnonzero(views.cut[:, axis])
        a, b = views.boxes[first][:, None], views.boxes[second][None]
        low, high, across, end = axis, axis + 2, 1 - axis, 3 - axis
        follows = (a[..., low] < b[..., low]) & (b[..., low] <= a[..., high]) & (a[..., high] < b[..., high])
        shared = np.minimum(a[..., end], b[..., end]) - np.maximum(a[..., across], b[..., across])
        spanned = np.maximum(a[..., end], b[..., end]) - np.minimum(a[..., across], b[..., across])
        rows, columns = np.nonzero(follows & (shared >= _FACING * spanned))
        found.append(np.stack([first[rows], second[columns], np.full(len(rows), axis)], axis=1))
    return np.concatenate(found)


def _without_duplicates(views: _Views, nms_iou: float) -> _Views:
    """Suppress non-maxima; every whole box is better than every one at a border."""
    ranks = np.empty(len(views.scores), np.float32)
    ranks[np.lexsort((-np.arange(len(ranks)), views.scores, views.whole))] = np.arange(len(ranks))
    return views.take(nms(views.boxes, ranks, nms_iou))


def _intersections(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Return the areas ``(len(a), len(b))`` that pairs of boxes share, in square pixels."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared: NDArray[np.float32] = sides.clip(0).prod(axis=2)
    return shared
