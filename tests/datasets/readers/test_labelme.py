"""Read LabelMe's JSON: shapes, key points, and images that only the annotation file holds."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from detector.datasets.issues import IssueKind
from detector.datasets.loading import load_splits
from tests.datasets.exports import draw_image
from tests.datasets.readers.reading import read


def labelme(*shapes: Any, image: str = "a.jpg", **more: Any) -> dict[str, Any]:
    return {"version": "5.4.1", "flags": {}, "shapes": [*shapes], "imagePath": image, "imageData": None, **more}


def shape(kind: str | None, *points: Any, **more: Any) -> dict[str, Any]:
    return {"label": "nut", "points": [*points], "shape_type": kind, **more}


@pytest.mark.parametrize(
    ("entry", "box"),
    [
        (shape("rectangle", [1, 20], [30, 2]), [1, 2, 30, 20]),
        (shape("rectangle", [1, 2], [30, 2], [30, 20], [1, 20], difficult=True), [1, 2, 30, 20]),  # X-AnyLabeling
        (shape("rotation", [10, 0], [20, 10], [10, 20], [0, 10], direction=0.785), [0, 0, 20, 20]),
        (shape("polygon", [1, 2], [30, 4], [15, 22]), [1, 2, 30, 22]),
        (shape("linestrip", [1, 2], [30, 4]), [1, 2, 30, 4]),
        (shape("points", [1, 2], [30, 4]), [1, 2, 30, 4]),
        (shape("circle", [20, 20], [20, 25]), [15, 15, 25, 25]),
        (shape("mask", [1, 2], [30, 4]), [1, 2, 31, 5]),
        (shape(None, [1, 2], [30, 4], [15, 22]), [1, 2, 30, 22]),
    ],
)
def test_shapes_have_their_boxes(entry: dict[str, Any], box: list[float], tmp_path: Path) -> None:
    assert read(tmp_path, {"a.json": labelme(entry)}).splits == {"": {"a": [("nut", box)]}}


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (shape("point", [1, 2]), "a box needs two points or more"),
        (shape("circle", [1, 2]), "a circle must have 2 points, but has 1"),
        (shape("rectangle", [1, 2], [3, "x"]), "points.1.1: input should be a valid number"),
        (shape("rectangle", [1, 2], [3, 10**400]), "points.1.1: "),
        (shape("rectangle", [1, 2], [3, 1e400]), "points.1.1: input should be a finite number"),
        (shape("rectangle", [1, 2], [3]), "points.1.1: field required"),
        (shape("rectangle", [1, 2], [3, 4], label=None), "label: input should be a valid string"),
        (shape("rectangle", [1, 2], [3, 4], label=" "), "label: string should have at least 1 character"),
        (["nut"], "input should be a valid dictionary"),
    ],
)
def test_an_unreadable_shape_takes_its_image_out(entry: Any, reason: str, tmp_path: Path) -> None:
    good = shape("rectangle", [1, 2], [30, 20])
    files = {"a.json": labelme(good, entry), "b.json": labelme(good, image="b.jpg")}
    found = read(tmp_path, files, ("a.jpg", "b.jpg"))
    assert found.splits == {"": {"b": [("nut", [1, 2, 30, 20])]}}
    assert [each.kind for each in found.issues] == [IssueKind.BAD_OBJECT]
    assert found.issues[0].line.startswith(f"a.json: object 2: {reason}")


def test_key_points_belong_to_the_box_of_their_group(tmp_path: Path) -> None:
    entries = (shape("rectangle", [1, 2], [30, 20], group_id=1), shape("point", [5, 5], label="head", group_id=1))
    assert read(tmp_path, {"a.json": labelme(*entries)}).splits == {"": {"a": [("nut", [1, 2, 30, 20])]}}


def test_unreadable_files_are_issues(tmp_path: Path) -> None:
    good = labelme(shape("rectangle", [1, 2], [30, 20]))
    files = {"a.json": good, "b.json": '{"shapes": [], "imagePath": ', "c.json": {"shapes": 5, "imagePath": "c.jpg"}}
    found = read(tmp_path, files, ("a.jpg", "b.jpg", "c.jpg"))
    assert found.splits == {"": {"a": [("nut", [1, 2, 30, 20])]}}
    assert [each.kind for each in found.issues] == [IssueKind.BAD_ANNOTATION] * 2
    assert found.issues[1].line == "c.json: shapes must be a list, but got 5"
    with pytest.raises(ValueError, match=r"data: none of the LabelMe files can be read: .*c\.json: shapes must be"):
        read(tmp_path / "more", {"c.json": {"shapes": 5, "imagePath": "c.jpg"}})


def test_lists_and_folders_are_splits(tmp_path: Path) -> None:
    entry = shape("rectangle", [1, 2], [30, 20])
    files = {
        "a.json": labelme(entry),
        "b.json": labelme(entry, image="b.jpg"),
        "train.txt": "a\n",
        "val.txt": "b.jpg\n",
    }
    found = read(tmp_path / "lists", files, ("a.jpg", "b.jpg"))
    assert {split: [*images] for split, images in found.splits.items()} == {"train": ["a"], "val": ["b"]}
    files = {"train/a.json": labelme(entry), "val/b.json": labelme(entry, image="b.jpg")}
    found = read(tmp_path / "folders", files, ("train/a.jpg", "val/b.jpg"))
    assert {split: [*images] for split, images in found.splits.items()} == {"train": ["a"], "val": ["b"]}


def embedded(folder: Path) -> str:
    draw_image(folder / "embedded.png")
    return base64.b64encode((folder / "embedded.png").read_bytes()).decode()


def test_embedded_images_are_used_where_no_file_is_beside(tmp_path: Path) -> None:
    entry = shape("rectangle", [1, 2], [30, 20])
    data = embedded(tmp_path)
    files = {
        "a.json": labelme(entry, imageData=data),
        "more/b.json": labelme(entry, image="..\\photos\\b.png", imageData=f"data:image/png;base64,{data}"),
        "c.json": labelme(entry, image="c.jpg", imageData="no base64!"),
    }
    found = read(tmp_path, files)
    assert found.splits == {"": {"a": [("nut", [1, 2, 30, 20])], "more/b": [("nut", [1, 2, 30, 20])]}}
    assert [each.line for each in found.issues] == ["c.json: there is no image 'c' or 'c.jpg' below data"]
    paths = {each.image_id: each.path for each in load_splits(tmp_path / "data", report=found.issues.append)[""]}
    assert paths["a"] == tmp_path / "data/a.jpg"  # the file, not the embedded image
    assert paths["more/b"].read_bytes() == (tmp_path / "embedded.png").read_bytes()
    assert tmp_path not in paths["more/b"].parents


def test_a_file_is_recognized_behind_a_large_embedded_image(tmp_path: Path) -> None:
    content = {"flags": {}, "imageData": "A" * 300_000, "imagePath": "a.jpg", "shapes": [], "version": "5"}
    assert read(tmp_path, {"a.json": content}).splits == {"": {"a": []}}
