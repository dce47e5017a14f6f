"""Labels that are probably wrong: objects without a box, wrong classes, loose, doubled and oddly sized boxes.

The first three compare the labels with the detections of a model, ranked by its confidence. After C. Northcutt, L.
Jiang, I. Chuang, Confident Learning (2021): a label that a confident model contradicts is probably an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, iou
from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections

SAME_PLACE = 0.5
"""IoU from which on two boxes are of one object."""
_ELSEWHERE = 0.2  # IoU below which a detection is of no annotated object
_DOUBLED = 0.9  # IoU of two boxes of one object
_MIN_OBJECTS = 8  # of a class, whose sizes are compared
_ODD = 4.0  # robust standard deviations from the median


class Doubt(NamedTuple):
    """A doubt about a label, or about its lack.

    kind: what is probably wrong. weight: 0 to 1, by which doubts are ranked. image: its row in the dataset.
    line: what the label and the model say. boxes, captions: the boxes to draw, the annotated one first.
    """

    kind: str
    weight: float
    image: int
    line: str
    boxes: Boxes
    captions: tuple[str, ...]


def find_doubts(dataset: Dataset, found: Sequence[Detections], thresholds: NDArray[np.float32]) -> list[Doubt]:
    """Return doubts about the labels of a dataset, the likeliest errors first.

    found: the detections of each image. thresholds: ``(K,)`` minimum scores of confident ones, by the model's class.
    Detections of classes that are not the dataset's are left out. Raises ValueError where lengths differ.
    """
    doubts: list[Doubt] = []
    sizes = _odd_sizes(dataset)
    for row, (each, detections) in enumerate(zip(dataset, found, strict=True)):
        known = np.array([name in dataset.class_names for name in detections.class_names], np.bool_)
        confident = detections.reaching(np.where(known, thresholds, np.inf).astype(np.float32))
        doubts += _contradicted(row, each, dataset.class_names, confident)
        doubts += _doubled(row, each, dataset.class_names)
        doubts += [_about(row, each, dataset.class_names, index, *odd) for index, odd in sizes.get(row, {}).items()]
    return sorted(doubts, key=lambda doubt: -doubt.weight)


def _contradicted(row: int, image: Annotation, class_names: Sequence[str], found: Detections) -> Iterator[Doubt]:
    """Yield doubts by confident detections: of unlabeled objects, of other classes, of other places."""
    names = [class_names[label] for label in image.labels]
    overlaps = iou(found.boxes, image.boxes).reshape(len(found), len(names))
    confidence = found.probabilities if found.probabilities is not None else 1 / (1 + np.exp(-found.scores))
    same = np.array([[each.class_name == name for name in names] for each in found], np.bool_).reshape(overlaps.shape)
    confirmed: NDArray[np.bool_] = np.any((overlaps >= SAME_PLACE) & same, axis=0)
    doubted: set[int] = set()  # objects: the first doubt about each is the most confident
    for number, each in enumerate(found):
        trust = float(confidence[number])
        if not len(names) or overlaps[number].max() < _ELSEWHERE:
            box = found.boxes[number : number + 1]
            yield Doubt("missing box", trust, row, f"not labeled: {each}", box, (f"{each.class_name}?",))
            continue
        index = int(overlaps[number].argmax())
        if confirmed[index] or image.difficult[index] or index in doubted:
            continue
        boxes = np.stack([image.boxes[index], found.boxes[number]])
        captions = (names[index], f"{each.class_name}?")
        overlap = float(overlaps[number, index])
        if overlap >= SAME_PLACE and each.class_name != names[index]:
            doubted.add(index)
            yield Doubt("other class", trust, row, f"labeled {names[index]}: {each}", boxes, captions)
        elif overlap < SAME_PLACE and each.class_name == names[index]:
            doubted.add(index)
            weight, line = trust * (1 - overlap), f"labeled at {_corners(image.boxes[index])}: {each}"
            yield Doubt("loose box", weight, row, line, boxes, captions)


def _doubled(row: int, image: Annotation, class_names: Sequence[str]) -> Iterator[Doubt]:
    overlaps = np.tril(iou(image.boxes, image.boxes), -1)
    for second, first in np.argwhere(overlaps >= _DOUBLED).tolist():
        names = tuple(class_names[image.labels[index]] for index in (first, second))
        line = f"two boxes of one object: {names[0]} and {names[1]} at {_corners(image.boxes[first])}"
        yield Doubt("doubled box", float(overlaps[second, first]), row, line, image.boxes[[first, second]], names)


def _about(
    row: int, image: Annotation, class_names: Sequence[str], index: int, measure: str, deviation: float
) -> Doubt:
    name = class_names[image.labels[index]]
    line = f"odd {measure} for a {name}: {_corners(image.boxes[index])}"
    # never before what a model is sure of
    return Doubt("odd size", 0.5 * (1 - _ODD / deviation), row, line, image.boxes[index : index + 1], (name,))


def _odd_sizes(dataset: Dataset) -> dict[int, dict[int, tuple[str, float]]]:
    """Return, by image and object, those whose side or aspect is far from the median of the class, and how far.

    Far is measured in robust standard deviations of the logarithm: 1.4826 times the median absolute deviation.
    """
    found: dict[int, dict[int, tuple[str, float]]] = {}
    where = np.array([(row, index) for row, each in enumerate(dataset) for index in range(len(each.labels))], np.int64)
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(each.boxes for each in dataset)]).astype(np.float64)
    labels = np.concatenate([np.zeros(0, np.int64), *(each.labels for each in dataset)])
    widths, heights = np.log(np.maximum(boxes[:, 2:] - boxes[:, :2], 1)).T
    measures = {"size": (widths + heights) / 2, "aspect": widths - heights}
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < _MIN_OBJECTS:
            continue
        for measure, values in measures.items():
            distances = np.abs(values[rows] - np.median(values[rows]))
            # objects of one size to the pixel would make every other size infinitely odd
            deviations = distances / max(1.4826 * float(np.median(distances)), 0.1)
            for at in np.flatnonzero(deviations > _ODD).tolist():
                row, index = where[rows[at]].tolist()
                found.setdefault(row, {})[index] = (measure, float(deviations[at]))
    return found


def _corners(box: NDArray[np.float32]) -> str:
    return " ".join(f"{corner:.0f}" for corner in box.tolist())
