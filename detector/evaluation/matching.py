"""Which detections are true: each belongs to the object of its image that it overlaps most (VOCevaldet.m)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def of_class(self, label: int) -> Objects:
        """Those of one class."""
        return self.take(np.flatnonzero(self.labels == label))

    def take(self, rows: NDArray[np.int64]) -> Objects:
        """Some of them, by ascending rows."""
        return Objects(self.images[rows], self.boxes[rows], self.labels[rows], self.difficult[rows])


def gather_objects(annotations: Sequence[Annotation], n_classes: int) -> Objects:
    """The objects of annotations. Raises ValueError for a label that is not in 0..n_classes - 1."""
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


class Assignment(NamedTuple):
    """What became of detections, one row each."""

    objects: NDArray[np.int64]  # (N,) row of the object that is overlapped most; -1 where there is no object
    ious: NDArray[np.float64]  # (N,) with that object; 0 where there is none
    true: NDArray[np.bool_]  # (N,) the first that finds its object
    counted: NDArray[np.bool_]  # (N,) False where the object is difficult


def match(images: NDArray[np.int64], boxes: NDArray[np.float64], objects: Objects, min_iou: float) -> NDArray[np.bool_]:
    """Whether each detection is true, for those that count: (M,) bool, M at most N, order kept.

    images (N,) and boxes (N, 4) are of the detections of one class, best first; objects are of that class.
    """
    found = assign(images, boxes, objects, min_iou)
    return found.true[found.counted]


def assign(images: NDArray[np.int64], boxes: NDArray[np.float64], objects: Objects, min_iou: float) -> Assignment:
    """Give each detection the object that it overlaps most, of objects overlapped equally the first one listed.

    images (N,) and boxes (N, 4) are of the detections of one class, best first; objects are of that class.
    """
    detection, row, iou = overlapping_pairs(images, boxes, objects)
    best_iou = np.full(len(images), -1.0)
    np.maximum.at(best_iou, detection, iou)
    # written in reverse, the first of equal ones is written last
    best_object = np.full(len(images), -1, np.int64)
    is_best = np.flatnonzero(iou == best_iou[detection])[::-1]
    best_object[detection[is_best]] = row[is_best]

    overlapping = np.flatnonzero(best_iou >= min_iou)
    counted = np.ones(len(images), np.bool_)
    counted[overlapping] = ~objects.difficult[best_object[overlapping]]
    true = np.zeros(len(images), np.bool_)
    _, firsts = np.unique(best_object[overlapping], return_index=True)
    true[overlapping[firsts]] = True
    return Assignment(best_object, np.maximum(best_iou, 0), true & counted, counted)


def overlapping_pairs(
    images: NDArray[np.int64], boxes: NDArray[np.float64], objects: Objects
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All pairs of a detection and an object of its image, grouped by detection: rows (P,), rows (P,), IoU (P,)."""
    starts = np.searchsorted(objects.images, images)
    counts = np.searchsorted(objects.images, images, side="right") - starts
    detection = np.repeat(np.arange(len(images)), counts)
    row = np.arange(len(detection)) - np.repeat(np.cumsum(counts) - counts - starts, counts)
    return detection, row, _paired_iou(boxes[detection], objects.boxes[row])


def _paired_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    # In float64 and by one division, so that an overlap of exactly one half of whole pixels is exactly 0.5.
    sides = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    intersection = sides[:, 0] * sides[:, 1]
    union = np.prod(a[:, 2:] - a[:, :2], axis=1) + np.prod(b[:, 2:] - b[:, :2], axis=1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def image_indices(image_ids: Sequence[str], image_index: Mapping[str, int], name: str) -> NDArray[np.int64]:
    """The index of each image; ValueError, naming the class, for an image that has none."""
    try:
        return np.array([image_index[image_id] for image_id in image_ids], np.int64)
    except KeyError as error:
        raise ValueError(
            f"{name!r} is detected in image {error.args[0]!r}, not one of the {len(image_index)} evaluated"
        ) from error
