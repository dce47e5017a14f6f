"""Read Label Studio's JSON: annotations that count, images by their addresses, and shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detector.datasets.issues import IssueKind
from tests.datasets.readers.reading import read


def result(value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"original_width": 60, "original_height": 40, "image_rotation": 0, "value": value, **more}


def box(label: str, x: float = 0, rotation: float = 0) -> dict[str, Any]:
    """10 x 10 per cent of the image, 6 x 4 pixels."""
    value = {"x": x, "y": 0, "width": 10, "height": 10, "rotation": rotation, "rectanglelabels": [label]}
    return result(value, type="rectanglelabels")


def task(*annotations: dict[str, Any], image: str = "a.jpg", key: str = "annotations", **more: Any) -> dict[str, Any]:
    return {"id": 1, key: [*annotations], "predictions": [], "data": {"image": image}, **more}


@pytest.mark.parametrize(
    ("annotations", "label"),
    [
        ([{"result": [box("old")], "created_at": "2024"}, {"result": [box("new")], "created_at": "2025"}], "new"),
        ([{"result": [box("new")], "created_at": "2025"}, {"result": [box("old")], "created_at": "2024"}], "new"),
        ([{"result": [box("truth")], "ground_truth": True}, {"result": [box("new")], "created_at": "2025"}], "truth"),
        ([{"result": [box("done")]}, {"result": [box("gone")], "created_at": "2", "was_cancelled": True}], "done"),
    ],
)
def test_one_annotation_of_a_task_counts(annotations: list[dict[str, Any]], label: str, tmp_path: Path) -> None:
    assert read(tmp_path, {"p.json": [task(*annotations)]}).splits == {"": {"a": [(label, [0, 0, 6, 4])]}}


def test_completions_of_old_versions_and_a_single_task_are_read(tmp_path: Path) -> None:
    done = {"result": [box("nut")], "lead_time": 2.5}
    found = read(tmp_path, {"p.json": task(done, {"result": [], "skipped": True}, key="completions")})
    assert found.splits == {"": {"a": [("nut", [0, 0, 6, 4])]}}


def test_predictions_are_no_labels(tmp_path: Path) -> None:
    labeled = task({"result": [box("nut")]}, image="b.jpg")
    found = read(tmp_path, {"p.json": [task(predictions=[{"result": [box("nut")]}]), labeled]}, ("a.jpg", "b.jpg"))
    assert found.splits == {"": {"b": [("nut", [0, 0, 6, 4])]}}
    assert found.log[-1] == "data: 1 images without annotation are left out; see --unlabeled background"


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/3/0a1b2c3d-a.jpg",
        "/data/local-files/?d=photos/a.jpg",
        "http://host:8080/photos/a.jpg?X-Amz-Signature=0",
        "gs://bucket/some%20folder/a.jpg",
        "C:\\photos\\a.jpg",
    ],
)
def test_images_go_by_the_end_of_their_address(image: str, tmp_path: Path) -> None:
    found = read(tmp_path, {"p.json": [task({"result": [box("nut")]}, image=image)]})
    assert list(found.splits[""]) == ["a"]


def test_shapes_turn_in_pixels_around_their_corner(tmp_path: Path) -> None:
    # 50 % of 60 x 40 at (30, 0): 6 x 4 pixels, whose corners turn by 45 degrees around it
    found = read(tmp_path, {"p.json": [task({"result": [box("nut", x=50, rotation=45)]})]})
    half = 0.5**0.5
    assert found.splits[""]["a"] == [
        ("nut", [round(30 - 4 * half, 4), 0, round(30 + 6 * half, 4), round(10 * half, 4)])
    ]


def test_key_points_belong_to_their_object(tmp_path: Path) -> None:
    point = result({"x": 5, "y": 5, "width": 1, "keypointlabels": ["head"]}, id="p")
    found = read(tmp_path, {"p.json": [task({"result": [box("nut"), {**point, "parentID": "r"}]})]})
    assert found.splits[""]["a"] == [("nut", [0, 0, 6, 4])]
    assert not found.issues


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (result({"x": 0, "y": 0, "width": 10, "height": 10, "rectanglelabels": []}), "has no label"),
        (result({"x": 0, "y": 0, "width": "wide", "height": 10, "rectanglelabels": ["nut"]}), "width: input should be"),
        ({**box("nut"), "image_rotation": 90}, "was drawn on the image turned by 90 degrees"),
        (result({"format": "rle", "rle": [1, 2], "brushlabels": ["nut"]}), "is a mask of a brush"),
        (result({"x": 5, "y": 5, "width": 1, "keypointlabels": ["head"]}), "height: field required"),
        ({**box("nut", rotation=10), "original_width": 0}, "original_width and original_height must be positive"),
    ],
)
def test_an_unreadable_shape_takes_its_image_out(entry: dict[str, Any], reason: str, tmp_path: Path) -> None:
    good = task({"result": [box("nut")]}, image="b.jpg")
    found = read(tmp_path, {"p.json": [task({"result": [box("nut"), entry]}), good]}, ("a.jpg", "b.jpg"))
    assert found.splits == {"": {"b": [("nut", [0, 0, 6, 4])]}}
    assert [each.kind for each in found.issues] == [IssueKind.BAD_OBJECT]
    assert found.issues[0].line.startswith(f"p.json: a.jpg: object 2: {reason}")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"id": 1, "annotations": [], "predictions": [], "data": {"text": "hello"}}, None),
        ({"id": 1, "annotations": [{"result": []}], "data": {"text": "hello"}}, "names no image"),
        ({"id": 1, "annotations": 5, "data": {"image": "a.jpg"}}, "annotations must be a list, but got 5"),
        ({"id": 1, "annotations": [{"result": None}], "data": {"image": "a.jpg"}}, "result must be a list"),
        ({"id": 1, "annotations": [], "data": {"one": "a.jpg", "two": "b.jpg"}}, "has several images: a.jpg, b.jpg"),
        (7, "a task must be a mapping, but got 7"),
    ],
)
def test_an_unreadable_task_is_an_issue(bad: Any, reason: str | None, tmp_path: Path) -> None:
    found = read(tmp_path, {"p.json": [task({"result": [box("nut")]}), bad]}, ("a.jpg", "b.jpg"))
    assert found.splits[""]["a"] == [("nut", [0, 0, 6, 4])]
    assert [each.kind for each in found.issues] == ([IssueKind.BAD_ANNOTATION] if reason else [IssueKind.MISSING_IMAGE])
    assert reason is None or found.issues[0].line.startswith(f"p.json: image 2: {reason}")
