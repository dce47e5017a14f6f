"""Threshold scored boxes, suppress non-maxima class by class, keep the best of the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.detections import Detections
from detector.runtime.compiling import kernel


def nms(boxes: Boxes, scores: NDArray[np.float32], iou: float) -> NDArray[np.int64]:
    """Suppress non-maxima greedily; return the indices ``(M,)`` int64 of the boxes kept, best first.

    boxes: ``(N, 4)``. scores: ``(N,)``. A box is dropped when its IoU with a better kept one is above ``iou``; at
    exactly ``iou`` it is kept. Ties of scores: the lower index is better. Overlaps are computed in float64. Raises
    ValueError for scores that are NaN, shapes that do not fit, and an ``iou`` outside 0..1.
    """
    boxes, scores = as_boxes(boxes), np.asarray(scores, np.float32)
    if scores.shape != (len(boxes),):
        raise ValueError(f"scores must have shape ({len(boxes)},), but got {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError(f"scores must not be NaN, but scores[{int(np.isnan(scores).argmax())}] is")
    if not 0 <= iou <= 1:
        raise ValueError(f"iou must be in 0..1, but got {iou}")
    order = np.argsort(-scores, kind="stable")
    return order[_survivors(boxes[order].astype(np.float64), float(iou))]


def select(
    boxes: Boxes,
    scores: NDArray[np.float32],
    class_names: Sequence[str],
    min_score: float,
    nms_iou: float,
    max_detections: int,
) -> Detections:
    """Threshold and suppress each class by itself, then keep the best detections of the image.

    boxes: ``(R, 4)`` shared by the classes, or ``(R, K, 4)``, refined by the regressor of each class.
    scores: ``(R, K)``; only scores of at least ``min_score`` count.
    Ties of scores: the lower label, then the lower row is better. Raises ValueError for shapes that do not fit,
    NaN, and a negative max_detections.
    """
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    names = tuple(class_names)
    if scores.ndim != 2 or scores.shape[1] != len(names):
        raise ValueError(f"scores must have shape (_, {len(names)}), but got {scores.shape}")
    shared, per_class = (len(scores), 4), (*scores.shape, 4)
    if boxes.shape not in (shared, per_class):
        raise ValueError(f"boxes must have shape {shared} or {per_class}, but got {boxes.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores must not be NaN")
    labels, rows = np.nonzero((scores >= min_score).T)
    scored = boxes[rows] if boxes.shape == shared else boxes[rows, labels]
    return suppress(Detections(scored, labels, scores[rows, labels], names), nms_iou).top(max_detections)


def join(parts: Sequence[Detections]) -> Detections:
    """Join detections of one image by class name. Ties of scores: the earlier part is better."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.class_names))
    labels = [np.array([names.index(name) for name in part.class_names], np.int64)[part.labels] for part in parts]
    boxes, scores = (np.concatenate(each) for each in ([p.boxes for p in parts], [p.scores for p in parts]))
    return Detections(boxes, np.concatenate(labels), scores, names)


def suppress(detections: Detections, iou: float) -> Detections:
    """Suppress non-maxima (`nms`) of each class by itself."""
    kept = [np.zeros(0, np.int64)]
    for label in np.unique(detections.labels):
        rows = np.flatnonzero(detections.labels == label)
        kept.append(rows[nms(detections.boxes[rows], detections.scores[rows], iou)])
    # ascending rows keep the order among equal scores
    rows = np.sort(np.concatenate(kept))
    return detections[rows]


@kernel
def _survivors(boxes: NDArray[np.float64], iou: float) -> NDArray[np.int64]:
    """Return the rows of (N, 4) boxes, sorted best first, that no better survivor overlaps by more than iou."""
    kept = np.empty(len(boxes), np.int64)
    n_kept = 0
    for row in range(len(boxes)):
        x1, y1, x2, y2 = boxes[row]
        area = (x2 - x1) * (y2 - y1)
        stays = True
        for i in range(n_kept):
            other = boxes[kept[i]]
            width = min(x2, other[2]) - max(x1, other[0])
            height = min(y2, other[3]) - max(y1, other[1])
            if width > 0 and height > 0:
                intersection = width * height
                union = area + (other[2] - other[0]) * (other[3] - other[1]) - intersection
                # a quotient: 3 / 10 is the float64 0.3 exactly, while products with 0.3 are rounded
                if intersection / union > iou:
                    stays = False
                    break
        if stays:
            kept[n_kept] = row
            n_kept += 1
    return kept[:n_kept]
