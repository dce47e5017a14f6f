"""Find label errors by the confident detections of a model, by doubled boxes and by odd sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.runs.label_doubts import find_doubts

Box = tuple[float, float, float, float]
NAMES = ("nut", "bolt", "dog")  # of the model; the data have no dog
A, NEAR_A, FAR = (10.0, 10.0, 50.0, 50.0), (10.0, 10.0, 50.0, 48.0), (200.0, 200.0, 240.0, 240.0)
LOOSE_A = (30.0, 10.0, 70.0, 50.0)  # IoU 1/3 with A


def dataset(*images: list[tuple[str, Box]], difficult: bool = False) -> Dataset:
    found = []
    for row, objects in enumerate(images):
        boxes = np.array([box for _, box in objects], np.float32).reshape(-1, 4)
        labels = np.array([("nut", "bolt").index(name) for name, _ in objects], np.int64)
        found.append(Annotation(str(row), Path(f"{row}.jpg"), boxes, labels, np.full(len(objects), difficult)))
    return Dataset(tuple(found), ("nut", "bolt"), "data")


def detections(*rows: tuple[str, Box, float]) -> Detections:
    """Detections with a probability each."""
    rows = tuple(sorted(rows, key=lambda row: -row[2]))
    probabilities = np.array([row[2] for row in rows], np.float32)
    boxes = np.array([row[1] for row in rows], np.float32).reshape(-1, 4)
    labels = np.array([NAMES.index(row[0]) for row in rows], np.int64)
    return Detections(boxes, labels, probabilities * 10, NAMES, probabilities)


def kinds(data: Dataset, *found: Detections) -> list[tuple[str, int]]:
    return [(each.kind, each.image) for each in find_doubts(data, found, np.full(3, 5, np.float32))]


def test_correct_labels_are_not_doubted() -> None:
    assert kinds(dataset([("nut", A), ("bolt", FAR)]), detections(("nut", NEAR_A, 0.9), ("bolt", FAR, 0.8))) == []
    assert kinds(dataset([("nut", A)]), detections()) == []


def test_a_confident_detection_of_nothing_labeled_is_a_missing_box() -> None:
    data = dataset([("nut", A)], [])
    found = find_doubts(data, [detections(("nut", FAR, 0.7)), detections(("bolt", A, 0.9))], np.full(3, 5, np.float32))
    assert [(each.kind, each.image, round(each.weight, 3)) for each in found] == [
        ("missing box", 1, 0.9),
        ("missing box", 0, 0.7),
    ]
    assert found[0].line == "not labeled: bolt 90 % at 10 10 50 50"
    assert (found[0].boxes.tolist(), found[0].captions) == ([list(A)], ("bolt?",))


@pytest.mark.parametrize("found", [("nut", FAR, 0.49), ("dog", FAR, 0.9)])
def test_weak_detections_and_other_classes_say_nothing(found: tuple[str, Box, float]) -> None:
    assert kinds(dataset([("nut", A)]), detections(found)) == []


def test_a_confident_detection_of_another_class_on_an_object() -> None:
    data = dataset([("nut", A)])
    found = find_doubts(data, [detections(("bolt", NEAR_A, 0.8))], np.full(3, 5, np.float32))
    assert [(each.kind, each.line) for each in found] == [("other class", "labeled nut: bolt 80 % at 10 10 50 48")]
    assert found[0].captions == ("nut", "bolt?")
    # the model also sees the labeled class there
    assert kinds(data, detections(("bolt", NEAR_A, 0.8), ("nut", A, 0.6))) == []
    assert kinds(dataset([("nut", A)], difficult=True), detections(("bolt", NEAR_A, 0.8))) == []


def test_an_object_is_doubted_once_by_the_most_confident_detection() -> None:
    found = detections(("bolt", NEAR_A, 0.7), ("bolt", A, 0.8), ("nut", LOOSE_A, 0.6))
    (doubt,) = find_doubts(dataset([("nut", A)]), [found], np.full(3, 5, np.float32))
    assert (doubt.kind, round(doubt.weight, 3)) == ("other class", 0.8)


def test_classes_are_compared_by_name() -> None:
    data = dataset([("nut", A), ("bolt", FAR)])
    (image,) = data
    turned = Dataset((replace(image, labels=1 - image.labels),), ("bolt", "nut"), "data")
    assert kinds(turned, detections(("nut", A, 0.9), ("bolt", FAR, 0.8))) == []
    assert kinds(turned, detections(("bolt", A, 0.9), ("nut", FAR, 0.8))) == [("other class", 0)] * 2


def test_loose_boxes_weigh_less_the_nearer_they_are() -> None:
    found = find_doubts(dataset([("nut", A)]), [detections(("nut", LOOSE_A, 0.9))], np.full(3, 5, np.float32))
    assert [(each.kind, round(each.weight, 3)) for each in found] == [("loose box", 0.6)]


def test_doubled_boxes() -> None:
    data = dataset([("nut", A), ("nut", A), ("bolt", FAR)], [("nut", A), ("bolt", A)], [("nut", A), ("nut", LOOSE_A)])
    found = detections()
    assert kinds(data, found, found, found) == [("doubled box", 0), ("doubled box", 1)]


def test_odd_sizes_within_a_class() -> None:
    usual: list[list[tuple[str, Box]]] = [[("nut", (0, 0, 40 + step, 40 - step))] for step in range(9)]
    data = dataset(*usual, [("nut", (0, 0, 400, 400))], [("bolt", (0, 0, 4, 4))])
    assert kinds(data, *[detections()] * 11) == [("odd size", 9)]
    assert kinds(dataset(*usual[:6], [("nut", (0, 0, 400, 400))]), *[detections()] * 7) == []


def test_the_likeliest_errors_come_first() -> None:
    data = dataset([("nut", A)], [("nut", A), ("nut", A)], [("nut", A)])
    found = (detections(("bolt", A, 0.7)), detections(), detections(("bolt", FAR, 0.95)))
    assert kinds(data, *found) == [("doubled box", 1), ("missing box", 2), ("other class", 0)]


def test_every_image_needs_its_detections() -> None:
    with pytest.raises(ValueError, match="shorter"):
        find_doubts(dataset([], []), [detections()], np.zeros(3, np.float32))
