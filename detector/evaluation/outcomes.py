"""What became of every detection and every object: the table that all other numbers are read from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Annotation
from detector.evaluation.matching import Objects, assign, gather_objects, image_indices
from detector.evaluation.voc import ClassDetections, Metric, average_precision

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Detections (N rows, class by class, best first) and objects (M rows, image by image), and who found whom.

    class_names, image_ids: what labels and images are indices of.
    objects: all of them, difficult ones included.
    images, labels: (N,) int64. boxes: (N, 4) float64, pixels, 0-based, half-open. scores: (N,) float64.
    nearest: (N,) int64, the object of its class and image that a detection overlaps most; -1 for none.
    ious: (N,) float64, with that object.
    true: (N,) bool. counted: (N,) bool, False for those on difficult objects, which are neither true nor false.
    found_by: (M,) int64, the detection that found an object; -1 for none.
    """

    class_names: tuple[str, ...]
    image_ids: tuple[str, ...]
    objects: Objects
    images: Rows
    labels: Rows
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    nearest: Rows
    ious: NDArray[np.float64]
    true: Mask
    counted: Mask
    found_by: Rows

    @property
    def false(self) -> Mask:
        """Detections that count and are not true."""
        return self.counted & ~self.true

    @property
    def wanted(self) -> Mask:
        """Objects that are to be found: those that are not difficult."""
        return ~self.objects.difficult

    @property
    def missed(self) -> Mask:
        """Wanted objects that no detection found, however low its score."""
        return self.wanted & (self.found_by < 0)

    def of_class(self, label: int) -> slice:
        """The rows of the detections of a class."""
        start, stop = np.searchsorted(self.labels, [label, label + 1])
        return slice(int(start), int(stop))

    def n_wanted(self) -> Rows:
        """The number of wanted objects of each class, (K,)."""
        return np.bincount(self.objects.labels[self.wanted], minlength=len(self.class_names))

    def average_precisions(self, metric: Metric) -> NDArray[np.float64]:
        """As `detector.evaluation.voc.evaluate_voc`, (K,) float64: NaN for classes without wanted objects."""
        return precisions_of(self, self.true, self.counted, self.n_wanted(), metric)


def precisions_of(
    outcomes: Outcomes, true: Mask, counted: Mask, n_objects: Rows, metric: Metric
) -> NDArray[np.float64]:
    """Average precision of each class, (K,), of detections that are true or count as these (N,) masks say."""
    found = []
    for label, n in enumerate(n_objects.tolist()):
        rows = outcomes.of_class(label)
        found.append(average_precision(true[rows][counted[rows]], n, metric))
    return np.array(found, np.float64)


def mean_of(precisions: NDArray[np.float64]) -> float:
    """mAP: the mean over the classes that have objects; NaN where none has."""
    known = precisions[~np.isnan(precisions)]
    return float(known.mean()) if known.size else float("nan")


def gather_outcomes(
    detections: Mapping[str, ClassDetections],
    ground_truth: Iterable[Annotation],
    class_names: Sequence[str],
    min_iou: float = 0.5,
) -> Outcomes:
    """Match all detections by the rule, and with the arguments and errors, of `voc.evaluate_voc`."""
    annotations = list(ground_truth)
    image_ids = tuple(each.image_id for each in annotations)
    image_index = {image_id: index for index, image_id in enumerate(image_ids)}
    if len(image_index) < len(image_ids):
        raise ValueError("ground_truth must hold each image once")
    if detections and not set(detections) & set(class_names):
        raise ValueError(f"none of the detected classes ({', '.join(detections)}) is among those to evaluate")
    objects = gather_objects(annotations, len(class_names))
    columns: list[tuple[NDArray[np.generic], ...]] = [_no_detections()]
    for label, name in enumerate(class_names):
        if name not in detections:
            continue
        found = detections[name]
        order = np.argsort(-found.scores, kind="stable")
        images = image_indices(found.image_ids, image_index, name)[order]
        boxes = found.boxes[order].astype(np.float64)
        rows = np.flatnonzero(objects.labels == label)
        matched = assign(images, boxes, objects.of_class(label), min_iou)
        # the last of the rows, -1, stands for no object
        nearest = np.append(rows, -1)[matched.objects]
        labels = np.full(len(images), label)
        columns.append((images, labels, boxes, found.scores[order], nearest, *matched[1:]))
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    images, labels, boxes, scores, nearest, ious, true, counted = joined
    found_by = np.full(len(objects.images), -1, np.int64)
    hits = np.flatnonzero(true)
    found_by[nearest[hits]] = hits
    return Outcomes(
        tuple(class_names),
        image_ids,
        objects,
        images.astype(np.int64),
        labels.astype(np.int64),
        boxes.astype(np.float64),
        scores.astype(np.float64),
        nearest.astype(np.int64),
        ious.astype(np.float64),
        true.astype(np.bool_),
        counted.astype(np.bool_),
        found_by,
    )


def _no_detections() -> tuple[NDArray[np.generic], ...]:
    whole, real, flag = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_)
    return whole, whole, np.zeros((0, 4)), real, whole, real, flag, flag
