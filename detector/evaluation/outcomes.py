"""Match detections and ground truth once, in the table from which all numbers of an evaluation are read.

    outcomes = gather_outcomes(detections, dataset, dataset.class_names)

Matching needs one image at a time: `join_outcomes` joins the tables of single images, wherever they were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.evaluation.matching import Objects, gather_objects, match

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ClassDetections:
    """Detections of one class in all images, in any order.

    image_ids: the image of each of the N detections.
    boxes: ``(N, 4)`` float32 ``x1 y1 x2 y2``, pixels, 0-based, half-open.
    scores: ``(N,)`` float64, since files of other programs may hold scores that differ by less than float32 resolves.
    Raises ValueError for arrays that do not fit together and scores that are NaN.
    """

    image_ids: Sequence[str]
    boxes: Boxes
    scores: NDArray[np.float64]

    def __post_init__(self) -> None:
        boxes, scores = as_boxes(self.boxes), np.asarray(self.scores, np.float64)
        if scores.shape != (len(boxes),) or len(self.image_ids) != len(boxes):
            raise ValueError(
                "image_ids, boxes and scores must have the same length, but got "
                f"{len(self.image_ids)}, {len(boxes)} and {scores.shape}"
            )
        if np.isnan(scores).any():
            raise ValueError("scores must not be NaN")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", scores)


def by_class(image_ids: Sequence[str], detections: Sequence[Detections]) -> dict[str, ClassDetections]:
    """Regroup the Detections of each image by class name. Raises ValueError where the lengths differ."""
    if len(image_ids) != len(detections):
        raise ValueError(f"detections must be one for each of {len(image_ids)} images, but got {len(detections)}")
    names = list(dict.fromkeys(name for each in detections for name in each.class_names))
    groups: dict[str, list[tuple[str, Boxes, NDArray[np.float32]]]] = {name: [] for name in names}
    for image_id, each in zip(image_ids, detections, strict=True):
        for label in np.unique(each.labels):
            rows = each.labels == label
            groups[each.class_names[label]].append((image_id, each.boxes[rows], each.scores[rows]))
    return {
        name: ClassDetections(
            [image_id for image_id, boxes, _ in group for _ in boxes],
            np.concatenate([np.zeros((0, 4), np.float32), *(boxes for _, boxes, _ in group)]),
            np.concatenate([np.zeros(0), *(scores for _, _, scores in group)]),
        )
        for name, group in groups.items()
    }


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Detections (N rows, class by class, best first), objects (M rows, image by image), and how they match.

    class_names, image_ids: what labels and images are indices of.
    objects: all objects, including difficult ones.
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
        """Detections that count and are not true, (N,) bool."""
        return self.counted & ~self.true

    @property
    def wanted(self) -> Mask:
        """Objects to be found, those that are not difficult, (M,) bool."""
        return ~self.objects.difficult

    @property
    def missed(self) -> Mask:
        """Wanted objects that no detection found, however low its score, (M,) bool."""
        return self.wanted & (self.found_by < 0)

    def of_class(self, label: int) -> slice:
        """Return the rows of the detections of a class."""
        start, stop = np.searchsorted(self.labels, [label, label + 1])
        return slice(int(start), int(stop))

    def best_first(self, rows: Rows) -> Rows:
        """Sort rows of detections by falling score; ties stay in order."""
        return rows[np.argsort(-self.scores[rows], kind="stable")]

    def n_wanted(self) -> Rows:
        """Count the wanted objects of each class, (K,) int64."""
        return np.bincount(self.objects.labels[self.wanted], minlength=len(self.class_names))


def gather_outcomes(
    detections: Sequence[Detections] | Mapping[str, ClassDetections],
    ground_truth: Iterable[Annotation],
    class_names: Sequence[str],
    min_iou: float = 0.5,
) -> Outcomes:
    """Match detections to the objects of all images by VOC's rule.

    detections: those of each annotation, in order; or of all images by class name, as files have them. A missing class
        has no detections; names that are not in ``class_names`` are left out.
    ground_truth: one annotation per image, such as a data set; labels are indices into ``class_names``.

    A detection, in order of falling scores (ties stay in order), belongs to the object of its class and image that it
    overlaps most, including difficult and found ones. Below ``min_iou`` it is false. Otherwise it does not count when
    the object is difficult, is true when it is the first of the object, and false when it is not.
    Raises ValueError for detections of images that have no annotation, an image with two, labels out of range,
    and detections none of whose classes is among ``class_names``.
    """
    if not 0 < min_iou <= 1:
        raise ValueError(f"min_iou must be above 0 and at most 1, but got {min_iou}")
    annotations = list(ground_truth)
    image_ids = tuple(each.image_id for each in annotations)
    image_index = {image_id: index for index, image_id in enumerate(image_ids)}
    if len(image_index) < len(image_ids):
        raise ValueError("ground_truth must hold each image once")
    if not isinstance(detections, Mapping):
        detections = by_class(image_ids, detections)
    if detections and not set(detections) & set(class_names):
        raise ValueError(f"none of the detected classes ({', '.join(detections)}) is among those to evaluate")
    objects = gather_objects(annotations, len(class_names))
    columns = [_NO_DETECTIONS]
    for label, name in enumerate(class_names):
        if name not in detections:
            continue
        found = detections[name]
        order = np.argsort(-found.scores, kind="stable")
        images = _image_indices(found.image_ids, image_index, name)[order]
        boxes = found.boxes[order].astype(np.float64)
        rows = np.flatnonzero(objects.labels == label)
        matches = match(images, boxes, objects.take(rows), min_iou)
        nearest = np.append(rows, -1)[matches.objects]
        columns.append((images, np.full(len(images), label), boxes, found.scores[order], nearest, *matches[1:]))
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    return _outcomes(tuple(class_names), image_ids, objects, *joined)


def join_outcomes(parts: Sequence[Outcomes]) -> Outcomes:
    """Join the outcomes of one or more lists of images, which share class names: as if matched together."""
    first_images = np.cumsum([0, *(len(each.image_ids) for each in parts)])
    first_objects = np.cumsum([0, *(len(each.objects.images) for each in parts)])
    objects, columns = [], []
    for each, image, row in zip(parts, first_images, first_objects, strict=False):
        objects.append((each.objects.images + image, *each.objects[1:]))
        nearest = np.where(each.nearest >= 0, each.nearest + row, -1)
        values = (each.boxes, each.scores, nearest, each.ious, each.true, each.counted)
        columns.append((each.images + image, each.labels, *values))
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    _, labels, _, scores, *_ = joined
    order = np.lexsort([-scores, labels])
    return _outcomes(
        parts[0].class_names,
        tuple(image_id for each in parts for image_id in each.image_ids),
        Objects(*(np.concatenate(column) for column in zip(*objects, strict=True))),
        *(column[order] for column in joined),
    )


_NO_DETECTIONS: tuple[NDArray[Any], ...] = (
    *(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0)),
    *(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_), np.zeros(0, np.bool_)),
)
"""Columns of `Outcomes` from images to counted."""


def _outcomes(
    class_names: tuple[str, ...], image_ids: tuple[str, ...], objects: Objects, *columns: NDArray[Any]
) -> Outcomes:
    images, labels, boxes, scores, nearest, ious, true, counted = columns
    found_by = np.full(len(objects.images), -1, np.int64)
    hits = np.flatnonzero(true)
    found_by[nearest[hits]] = hits
    return Outcomes(
        class_names, image_ids, objects, images, labels, boxes, scores, nearest, ious, true, counted, found_by
    )


def _image_indices(image_ids: Sequence[str], image_index: Mapping[str, int], class_name: str) -> Rows:
    try:
        return np.array([image_index[image_id] for image_id in image_ids], np.int64)
    except KeyError as error:
        raise ValueError(
            f"{class_name!r} is detected in image {error.args[0]!r}, not one of the {len(image_index)} evaluated"
        ) from error
