"""Scored boxes become detections: threshold, non-maximum suppression, the best of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, area, as_boxes
from detector.runtime.compiling import kernel


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image, best first: rows are sorted by score, equal scores stay in order.

    boxes: ``(N, 4)`` float32 ``x1 y1 x2 y2``, pixels of the image, 0-based, half-open.
    labels: ``(N,)`` int64, indices into class_names.
    scores: ``(N,)`` float32 margins; neither bounded nor probabilities.
    class_names: names of the labels 0..K-1.
    Raises ValueError for arrays that do not fit together, labels out of range, values that are not finite.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes)
        labels, scores = np.asarray(self.labels), np.asarray(self.scores, np.float32)
        for name, array in (("labels", labels), ("scores", scores)):
            if array.shape != (len(boxes),):
                raise ValueError(f"{name} must have shape ({len(boxes)},), but got {array.shape}")
        if labels.size and not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"labels must be integers, but got {labels.dtype}")
        wrong = (labels < 0) | (labels >= len(self.class_names))
        if wrong.any():
            raise ValueError(f"labels must be in 0..{len(self.class_names) - 1}, but got {labels[wrong][0]}")
        if not np.isfinite(scores).all():
            raise ValueError(f"scores must be finite, but got {scores[~np.isfinite(scores)][0]}")
        order = np.argsort(-scores, kind="stable")
        object.__setattr__(self, "boxes", boxes[order])
        object.__setattr__(self, "labels", labels.astype(np.int64)[order])
        object.__setattr__(self, "scores", scores[order])
        object.__setattr__(self, "class_names", tuple(self.class_names))

    @classmethod
    def empty(cls, class_names: Sequence[str]) -> Detections:
        """Nothing found."""
        no_scores = np.zeros(0, np.float32)
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), no_scores, tuple(class_names))

    def __len__(self) -> int:
        return len(self.boxes)

    def above(self, min_score: float) -> Detections:
        """Those with a score of at least min_score."""
        return self.top(int((self.scores >= min_score).sum()))

    def top(self, n: int) -> Detections:
        """The n best, or all where there are fewer. Raises ValueError for a negative n."""
        if n < 0:
            raise ValueError(f"n must not be negative, but got {n}")
        return Detections(self.boxes[:n], self.labels[:n], self.scores[:n], self.class_names)

    def inside(self) -> Detections:
        """Those with an area: boxes that were moved out of their image, and cut to it, have none."""
        kept = area(self.boxes) > 0
        return Detections(self.boxes[kept], self.labels[kept], self.scores[kept], self.class_names)

    def to_records(self) -> list[dict[str, str | float | list[float]]]:
        """One ``{"label": name, "score": float, "box": [x1, y1, x2, y2]}`` a detection, ready for JSON."""
        return [
            {"label": self.class_names[label], "score": _plain(score), "box": list(map(_plain, box))}
            for box, label, score in zip(self.boxes, self.labels, self.scores, strict=True)
        ]


def nms(boxes: Boxes, scores: NDArray[np.float32], iou: float) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: indices ``(M,)`` int64 of the boxes that stay, best first.

    boxes ``(N, 4)``, scores ``(N,)``. A box goes when its IoU with a better one that stayed is above ``iou``;
    at exactly ``iou`` it stays. Of equal scores the lower index counts as better. Overlaps are computed in
    float64. Raises ValueError for scores that are NaN, shapes that do not fit, and an ``iou`` outside 0..1.
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
    """Threshold and suppress each class by itself, then keep the best of the image over all classes.

    boxes: ``(R, 4)`` shared by the classes, or ``(R, K, 4)``, moved by each class's own regressor.
    scores: ``(R, K)``; a box is a candidate of a class where its score is at least min_score.
    Of equal scores the lower label, then the lower row, counts as better. Raises ValueError for shapes that
    do not fit, NaN, and a negative max_detections.
    """
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    names = tuple(class_names)
    if scores.ndim != 2 or scores.shape[1] != len(names):
        raise ValueError(f"scores must have shape (_, {len(names)}), but got {scores.shape}")
    shared, moved = (len(scores), 4), (*scores.shape, 4)
    if boxes.shape not in (shared, moved):
        raise ValueError(f"boxes must have shape {shared} or {moved}, but got {boxes.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores must not be NaN")
    labels, rows = np.nonzero((scores >= min_score).T)
    candidates = boxes[rows] if boxes.shape == shared else boxes[rows, labels]
    return suppress(Detections(candidates, labels, scores[rows, labels], names), nms_iou).top(max_detections)


def join(parts: Sequence[Detections]) -> Detections:
    """What several detectors found in one image, class by class name; of equal scores the earlier part's are better."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.class_names))
    labels = [np.array([names.index(name) for name in part.class_names], np.int64)[part.labels] for part in parts]
    boxes, scores = (np.concatenate(each) for each in ([p.boxes for p in parts], [p.scores for p in parts]))
    return Detections(boxes, np.concatenate(labels), scores, names)


def suppress(detections: Detections, iou: float) -> Detections:
    """Non-maximum suppression (`nms`) of each class by itself."""
    kept = [np.zeros(0, np.int64)]
    for label in np.unique(detections.labels):
        rows = np.flatnonzero(detections.labels == label)
        kept.append(rows[nms(detections.boxes[rows], detections.scores[rows], iou)])
    # Ascending rows keep the order among equal scores.
    rows = np.sort(np.concatenate(kept))
    return Detections(detections.boxes[rows], detections.labels[rows], detections.scores[rows], detections.class_names)


@kernel
def _survivors(boxes: NDArray[np.float64], iou: float) -> NDArray[np.int64]:
    """Rows of the (N, 4) boxes, sorted best first, that no better survivor overlaps by more than iou."""
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
                # A quotient: 3 / 10 is the float64 0.3 exactly, while products with 0.3 are rounded.
                if intersection / union > iou:
                    stays = False
                    break
        if stays:
            kept[n_kept] = row
            n_kept += 1
    return kept[:n_kept]


def _plain(value: np.float32) -> float:
    # The shortest decimal that reads back as the same float32: 0.83 instead of 0.8299999833106995.
    return float(str(value))
