"""Match detections to objects: each belongs to the object of its image that it overlaps most (VOCevaldet.m)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Annotation


class Objects(NamedTuple):
    """Objects of all images in one table, in the order of the images."""

    images: NDArray[np.int64]  # (N,) ascending
    boxes: NDArray[np.float64]  # (N, 4)
    labels: NDArray[np.int64]  # (N,)
    difficult: NDArray[np.bool_]  # (N,)

    def take(self, rows: NDArray[np.int64]) -> Objects:
        """Select objects by ascending row."""
        return Objects(self.images[rows], self.boxes[rows], self.labels[rows], self.difficult[rows])


def gather_objects(annotations: Sequence[Annotation], n_classes: int) -> Objects:
    """Concatenate the objects of annotations. Raises ValueError for a label that is not in 0..n_classes - 1."""
    labels = np.concatenate([np.zeros(0, np.int64), *(each.labels for each in annotations)])
    wrong = (labels < 0) | (labels >= n_classes)
    if wrong.any():
        raise ValueError(f"labels must be in 0..{n_classes - 1}, but got {labels[wrong][0]}")
    return Objects(
        np.repeat(np.arange(len(annotations)), [len(each.boxes) for each in annotations]),
        np.concatenate([np.zeros((0, 4)), *(each.boxes for each in annotations)]),
        labels,
        np.concatenate([np.zeros(0, np.bool_), *(each.difficult for each in annotations)]),
    )


class Matches(NamedTuple):
    """Objects that detections belong to, one row per detection."""

    objects: NDArray[np.int64]  # (N,) row of the object with the highest IoU; -1 where the image has no object
    ious: NDArray[np.float64]  # (N,) IoU with that object; 0 for none
    true: NDArray[np.bool_]  # (N,) True for the first detection that finds an object
    counted: NDArray[np.bool_]  # (N,) False where the object is difficult


def match(images: NDArray[np.int64], boxes: NDArray[np.float64], objects: Objects, min_iou: float) -> Matches:
    """Match each detection to the object with the highest IoU; ties keep the first object.

    images: (N,) and boxes: (N, 4) of the detections of one class, best first. objects: of that class.
    """
    detection, row, iou = overlapping_pairs(images, boxes, objects)
    best_iou = np.full(len(images), -1.0)
    np.maximum.at(best_iou, detection, iou)
    # written in reverse: the first of equal ones is written last
    best_object = np.full(len(images), -1, np.int64)
    is_best = np.flatnonzero(iou == best_iou[detection])[::-1]
    best_object[detection[is_best]] = row[is_best]

    overlapping = np.flatnonzero(best_iou >= min_iou)
    counted = np.ones(len(images), np.bool_)
    counted[overlapping] = ~objects.difficult[best_object[overlapping]]
    true = np.zeros(len(images), np.bool_)
    _, firsts = np.unique(best_object[overlapping], return_index=True)
    true[overlapping[firsts]] = True
    return Matches(best_object, np.maximum(best_iou, 0), true & counted, counted)


def overlapping_pairs(
    images: NDArray[np.int64], boxes: NDArray[np.float64], objects: Objects
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pair each detection with every object of its image: detection rows (P,), object rows (P,), IoU (P,)."""
    starts = np.searchsorted(objects.images, images)
    counts = np.searchsorted(objects.images, images, side="right") - starts
    detection = np.repeat(np.arange(len(images)), counts)
    row = np.arange(len(detection)) - np.repeat(np.cumsum(counts) - counts - starts, counts)
    return detection, row, _paired_iou(boxes[detection], objects.boxes[row])


def _paired_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    # in float64 and by one division, so that an overlap of exactly one half of whole pixels is exactly 0.5
    sides = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    intersection = sides[:, 0] * sides[:, 1]
    union = np.prod(a[:, 2:] - a[:, :2], axis=1) + np.prod(b[:, 2:] - b[:, :2], axis=1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
