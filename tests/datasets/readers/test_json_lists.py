"""Read the JSON of Create ML, VoTT and Datumaro: what is labeled, and entries that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detector.datasets.issues import IssueKind
from tests.datasets.readers.reading import read


def createml(*boxes: Any) -> list[Any]:
    good = {"label": "nut", "coordinates": {"x": 10, "y": 10, "width": 4, "height": 6}}
    return [{"image": "a.jpg", "annotations": [good, *boxes]}, {"image": "b.jpg", "annotations": [good]}]


def vott(*regions: Any, state: int = 2) -> dict[str, Any]:
    good = {"tags": ["nut"], "boundingBox": {"left": 8, "top": 7, "width": 4, "height": 6}, "points": []}
    assets = {
        name: {"asset": {"name": f"{name}.jpg", "state": state, "size": {"width": 60, "height": 40}}, "regions": own}
        for name, own in (("a", [good, *regions]), ("b", [good]))
    }
    return {"name": "nuts", "tags": [{"name": "nut"}], "assets": assets}


def datumaro(*annotations: Any) -> dict[str, Any]:
    good = {"type": "bbox", "label_id": 0, "bbox": [8, 7, 4, 6]}
    items = [{"id": "a", "annotations": [good, *annotations]}, {"id": "b", "annotations": [good]}]
    return {"categories": {"label": {"labels": [{"name": "nut"}]}}, "items": items}


BAD: list[tuple[Any, str]] = [
    (createml({"label": "", "coordinates": {}}), "label: string should have at least 1 character"),
    (createml({"label": "nut"}), "coordinates: field required"),
    (createml({"label": "nut", "coordinates": {"x": "a", "y": 1, "width": 1, "height": 1}}), "coordinates.x: input sh"),
    (
        createml({"label": "nut", "coordinates": {"x": 1, "y": 1, "width": 1e308, "height": -1e400}}),
        "coordinates.height",
    ),
    (createml(7), "input should be a valid dictionary"),
    (vott({"tags": []}), "has no tag"),
    (vott({"tags": ["nut"]}), "a box needs two points or more"),
    (vott({"tags": ["nut"], "boundingBox": {"left": 1}}), "boundingBox.top: field required"),
    (vott("nut"), "input should be a valid dictionary"),
    (datumaro({"type": "bbox", "label_id": 1, "bbox": [1, 2, 3, 4]}), "there is no label 1, only 0 to 0"),
    (datumaro({"type": "bbox", "label_id": 0}), "has no bbox"),
    (datumaro({"type": "bbox", "label_id": 0, "bbox": [1, 2, 3]}), "bbox.3: field required"),
    (datumaro({"type": "mask", "label_id": 0, "rle": {}}), "has no box that is read: it is of the type 'mask'"),
    (datumaro({"type": "polygon", "label_id": 0, "points": [1, 2, 3]}), "has no box that is read"),
    (datumaro({"type": "rotated_bbox", "label_id": 0, "cx": 1}), "cy: field required"),
]


@pytest.mark.parametrize(("content", "reason"), BAD)
def test_an_unreadable_object_takes_its_image_out(content: Any, reason: str, tmp_path: Path) -> None:
    found = read(tmp_path, {"export.json": content}, ("a.jpg", "b.jpg"))
    assert found.splits == {"": {"b": [("nut", [8, 7, 12, 13])]}}
    assert [each.kind for each in found.issues] == [IssueKind.BAD_OBJECT]
    assert f"object 2: {reason}" in found.issues[0].line


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([*createml(), {"annotations": []}], "image 3: image: field required"),
        ([*createml(), {"image": "c.jpg"}], "image 3: annotations: field required"),
        ({**vott(), "assets": {**vott()["assets"], "c": 5}}, "image 3: input should be a valid dictionary"),
        ({**datumaro(), "items": [*datumaro()["items"], {"annotations": []}]}, "image 3: id: field required"),
    ],
)
def test_an_unreadable_image_is_an_issue(content: Any, reason: str, tmp_path: Path) -> None:
    found = read(tmp_path, {"export.json": content}, ("a.jpg", "b.jpg"))
    assert list(found.splits[""]) == ["a", "b"]
    assert [each.kind for each in found.issues] == [IssueKind.BAD_ANNOTATION]
    assert found.issues[0].line.startswith(f"export.json: {reason}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({**vott(), "assets": [1], "asset": 0, "regions": 0}, "assets must be a mapping, but got"),
        ({**datumaro(), "items": 5}, "items must be a list, but got 5"),
        ({**datumaro(), "categories": {}}, "categories.label must be a mapping, but got None"),
        ({**datumaro(), "categories": {"label": {"labels": [{}]}}}, "categories.label.labels: name: field required"),
        ({**datumaro(), "items": []}, "lists no images"),
    ],
)
def test_a_broken_file_is_an_error(content: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"export\.json: {reason}"):
        read(tmp_path, {"export.json": {**content, "annotations": []}})


def test_a_box_without_area_is_left_out(tmp_path: Path) -> None:
    flat = {"label": "nut", "coordinates": {"x": 10, "y": 10, "width": 0, "height": 6}}
    found = read(tmp_path, {"export.json": createml(flat)}, ("a.jpg", "b.jpg"))
    assert found.splits[""]["a"] == [("nut", [8, 7, 12, 13])]
    assert [each.line for each in found.issues] == ["export.json: a.jpg: object 2: the box is empty: 10, 7, 10, 13"]


def test_assets_that_nobody_opened_are_unlabeled(tmp_path: Path) -> None:
    content = vott()
    content["assets"]["a"]["regions"] = []
    found = read(tmp_path / "visited", {"export.json": content}, ("a.jpg", "b.jpg"))
    assert found.splits[""] == {"a": [], "b": [("nut", [8, 7, 12, 13])]}
    content["assets"]["a"]["asset"]["state"] = 0
    found = read(tmp_path / "new", {"export.json": content}, ("a.jpg", "b.jpg"))
    assert found.splits[""] == {"b": [("nut", [8, 7, 12, 13])]}


def test_a_size_of_another_image_is_an_issue(tmp_path: Path) -> None:
    assets = vott({"tags": ["nut"], "boundingBox": {"left": 90, "top": 7, "width": 4, "height": 6}})
    assets["assets"]["a"]["asset"]["size"] = {"width": 100, "height": 400}
    items = datumaro({"type": "bbox", "label_id": 0, "bbox": [90, 7, 4, 6]})
    items["items"][0]["image"] = {"path": "a.jpg", "size": [400, 100]}
    for number, content in enumerate((assets, items)):
        found = read(tmp_path / str(number), {"export.json": content}, ("a.jpg", "b.jpg"))
        assert [each.kind for each in found.issues] == [IssueKind.WRONG_SIZE]
        assert "annotated as 100 x 400 pixels" in found.issues[0].line
        assert list(found.splits[""]) == ["b"]


def test_a_split_without_objects_is_read(tmp_path: Path) -> None:
    name = "_annotations.createml.json"
    files = {f"train/{name}": createml(), f"valid/{name}": [{"image": "c.jpg", "annotations": []}]}
    found = read(tmp_path, files, ("train/a.jpg", "train/b.jpg", "valid/c.jpg"))
    assert found.splits["val"] == {"c": []}
