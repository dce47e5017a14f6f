"""Suspicious boxes at their limits, class counts, orientation, near-duplicates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.datasets.dataset import Annotation, Dataset, Object
from detector.datasets.inspection import count_classes, shared_scenes, similar_class_names, suspicious_boxes
from detector.datasets.issues import Issue, IssueKind, raise_issue
from detector.datasets.resolving import drawn_on_stored, oriented

Box = tuple[float, float, float, float]


def header(width: int = 100, height: int = 50, orientation: int = 1) -> Any:
    """What is asked of one."""

    class Header:
        pass

    made: Any = Header()
    made.width, made.height, made.orientation = width, height, orientation
    return made


def objects(*rows: tuple[str, Box]) -> list[Object]:
    return [Object(f"a.xml: object {number}", name, box, False) for number, (name, box) in enumerate(rows, 1)]


def found(*rows: tuple[str, Box]) -> list[tuple[str, str]]:
    return [(issue.kind.name, issue.line) for issue in suspicious_boxes(objects(*rows), header())]


def test_boxes_below_five_pixels_are_tiny() -> None:
    assert found(("nut", (0, 0, 5, 5)), ("nut", (20, 0, 70, 30))) == []
    assert found(("nut", (0, 0, 4.5, 20))) == [("TINY_BOX", "a.xml: object 1: nut has 4.5 x 20 pixels")]
    assert found(("nut", (0, 0, 20, 4))) == [("TINY_BOX", "a.xml: object 1: nut has 20 x 4 pixels")]


def test_boxes_of_nearly_the_whole_image_are_suspicious() -> None:
    assert found(("nut", (0, 0, 98, 50))) == [("WHOLE_IMAGE", "a.xml: object 1: nut is as large as the image")]
    assert found(("nut", (0, 0, 97.9, 50))) == []
    assert found(("nut", (0, 0, 100, 50))) == [("WHOLE_IMAGE", "a.xml: object 1: nut is as large as the image")]


def test_overlapping_boxes_of_one_class_are_duplicates() -> None:
    first, ninety = (0, 0, 10, 20), (0, 0, 10, 18)
    line = "a.xml: object 2: nut covers object 1 of the same class"
    assert found(("nut", first), ("nut", ninety)) == [("DUPLICATE_BOX", line)]
    assert found(("nut", first), ("nut", (0, 0, 10, 17.9))) == []
    assert found(("nut", first), ("bolt", first)) == []
    # each pair once
    assert len(found(("nut", first), ("nut", first), ("nut", first))) == 3


def test_counts_of_classes_by_size() -> None:
    boxes = np.array([[0, 0, 31, 33], [0, 0, 32, 32], [0, 0, 95, 97], [0, 0, 96, 96], [0, 0, 9, 9]], np.float32)
    difficult = np.array([False, True, False, False, False])
    one = Annotation("a", Path("a.jpg"), boxes, np.array([0, 0, 0, 0, 2]), difficult)
    two = Annotation("b", Path("b.jpg"), boxes[:1], np.array([0]), difficult[:1])
    counts = count_classes(Dataset((one, two), ("nut", "bolt", "cog"), "data"))
    assert list(counts) == ["nut", "bolt", "cog"]
    nut = counts["nut"]
    assert (nut.images, nut.objects, nut.small, nut.medium, nut.large, nut.difficult) == (2, 5, 2, 2, 1, 1)
    assert (counts["bolt"].images, counts["bolt"].objects) == (0, 0)
    assert (counts["cog"].images, counts["cog"].small, counts["cog"].medium) == (1, 1, 0)


def test_scenes_across_splits_are_named_once() -> None:
    def images(*names: str) -> list[Annotation]:
        nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
        return [Annotation(name, Path(f"{name}.jpg"), *nothing) for name in names]

    splits = {"train": images("a", "b", "c"), "val": images("d", "e"), "test": images("f")}
    # a, b, d and f are one scene, c and e alone
    found = shared_scenes(splits, [0, 0, 1, 0, 2, 0])
    assert [issue.line for issue in found] == [
        "a.jpg: looks like d.jpg; images of this scene: 2 in train, 1 in val, 1 in test"
    ]
    assert {issue.kind for issue in found} == {IssueKind.SHARED_SCENE}
    assert shared_scenes(splits, [0, 0, 0, 1, 1, 2]) == []


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (("Cat", "cat", "dog"), "'Cat', 'cat'"),
        (("dog", "dog\N{ZERO WIDTH SPACE}"), r"'dog', 'dog\u200b'"),
        (("traffic light", "traffic_light", "trafficlight"), "'traffic light', 'traffic_light', 'trafficlight'"),
        (("apple", "apples", "bus", "bu"), "'apple', 'apples'"),
        (("\N{FULLWIDTH LATIN SMALL LETTER A}b", "ab"), r"'\uff41b', 'ab'"),
    ],
)
def test_class_names_that_look_alike(names: tuple[str, ...], alike: str) -> None:
    assert [issue.line for issue in similar_class_names(names, "data")] == [f"data: classes {alike} may be one"]


def test_different_class_names_do_not_look_alike() -> None:
    assert similar_class_names(("C", "C++", "1", "11", "bus", "buses", "a", "s", "-", "_"), "data") == []


@pytest.mark.parametrize(
    ("orientation", "expected"),
    # of 10 5 30 15 on stored pixels; the image as it is shown has 60 x 40 or, turned, 40 x 60
    [
        (1, [10, 5, 30, 15]),
        (2, [30, 5, 50, 15]),
        (3, [30, 25, 50, 35]),
        (4, [10, 25, 30, 35]),
        (5, [5, 10, 15, 30]),
        (6, [25, 10, 35, 30]),
        (7, [25, 30, 35, 50]),
        (8, [5, 30, 15, 50]),
    ],
)
def test_boxes_are_oriented_with_their_image(orientation: int, expected: list[float]) -> None:
    width, height = (40, 60) if orientation > 4 else (60, 40)
    found = oriented(np.array([[10.0, 5, 30, 15]]), header(width, height, orientation))
    assert found.tolist() == [expected]
    assert oriented(np.zeros((0, 4)), header(width, height, orientation)).shape == (0, 4)
    # the pixels of an image that is turned go where its boxes go
    stored = np.zeros((40, 60))
    stored[5:15, 10:30] = 1
    if orientation > 4:
        stored = stored.T
    if orientation in (2, 3, 6, 7):
        stored = stored[:, ::-1]
    if orientation in (3, 4, 7, 8):
        stored = stored[::-1]
    x1, y1, x2, y2 = map(int, expected)
    assert stored[y1:y2, x1:x2].all() and stored.sum() == 200


def test_sizes_show_whether_boxes_are_on_stored_pixels() -> None:
    assert drawn_on_stored(None, header(40, 60, 6)) is False
    assert drawn_on_stored((40, 60), header(40, 60, 6)) is False
    assert drawn_on_stored((60, 40), header(40, 60, 6)) is True
    assert drawn_on_stored((60, 40), header(40, 60, 1)) is None
    assert drawn_on_stored((60, 40), header(40, 60, 3)) is None
    assert drawn_on_stored((60, 41), header(40, 60, 6)) is None
    for orientation in (5, 6, 7, 8):
        assert drawn_on_stored((60, 40), header(40, 60, orientation))


def test_issues_are_raised_as_matching_errors() -> None:
    for kind in IssueKind:
        missing = kind in (IssueKind.MISSING_ANNOTATION, IssueKind.MISSING_IMAGE)
        with pytest.raises(FileNotFoundError if missing else ValueError, match="a line"):
            raise_issue(Issue(kind, "a line"))


def test_annotations_name_all_of_their_contents() -> None:
    """What digests are made of: another number of anything is another annotation."""
    one = Annotation("a", Path("a.jpg"), np.zeros((1, 4), np.float32), np.array([1]), np.array([False]))
    others = [
        Annotation("b", one.path, one.boxes, one.labels, one.difficult),
        Annotation("a", one.path, one.boxes + 1, one.labels, one.difficult),
        Annotation("a", one.path, one.boxes, one.labels + 1, one.difficult),
        Annotation("a", one.path, one.boxes, one.labels, ~one.difficult),
    ]
    assert len({one.to_bytes(), *(each.to_bytes() for each in others)}) == 5
    assert Annotation("a", Path("c.jpg"), one.boxes, one.labels, one.difficult).to_bytes() == one.to_bytes()
