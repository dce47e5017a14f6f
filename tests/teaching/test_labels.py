"""Labels of a project: checked, written whole, read back equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.datasets.loading import load_dataset
from detector.images.files import write_image
from detector.teaching.labels import Box, ImageLabels, check_labels, read_labels, write_labels
from tests.fakes import colored

SIZE = (100, 200)
NAMES = st.sampled_from(["dog", "Katze", "\N{DOG FACE}", "a b"])


def boxes() -> st.SearchStrategy[Box]:
    sides = st.tuples(st.integers(0, 150), st.integers(0, 90), st.integers(1, 50), st.integers(1, 10))
    return st.builds(lambda name, at: Box(name, (at[0], at[1], at[0] + at[2], at[1] + at[3])), NAMES, sides)


@settings(max_examples=20)
@given(st.lists(st.builds(ImageLabels, st.lists(boxes(), max_size=4).map(tuple), st.booleans()), max_size=3))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, given_labels: list[ImageLabels]) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    labels = {f"{number}.jpg": each for number, each in enumerate(given_labels)}
    names = sorted({box.class_name for each in given_labels for box in each.boxes})
    write_labels(path, labels, dict.fromkeys(labels, SIZE), names)
    assert read_labels(path) == (labels, dict.fromkeys(labels, SIZE), names)


def test_the_file_is_coco_for_every_other_command(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.png", colored())
    labels = {"a.png": ImageLabels((Box("red", (0, 0, 64, 64)), Box("green", (96, 0, 160, 64))), True)}
    write_labels(tmp_path / "labels.json", labels, {"a.png": (160, 160)}, ["red", "green"])
    (image,) = load_dataset(tmp_path)
    assert image.boxes.tolist() == [[0, 0, 64, 64], [96, 0, 160, 64]]
    assert image.labels.tolist() == [0, 1]


def test_images_of_other_tools_files_are_finished(tmp_path: Path) -> None:
    labels = {"a.png": ImageLabels((Box("red", (0, 0, 64, 64)),), False), "b.png": ImageLabels((), True)}
    path = tmp_path / "labels.json"
    write_labels(path, labels, dict.fromkeys(labels, SIZE), ["red"])
    content = json.loads(path.read_text())
    for image in content["images"]:
        del image["done"]
    path.write_text(json.dumps(content))
    assert {name: each.done for name, each in read_labels(path)[0].items()} == {"a.png": True, "b.png": True}


def test_corners_are_clipped_to_the_image() -> None:
    content = {"boxes": [{"label": "  a  b ", "box": [-5, 10.126, 500, 20]}], "done": True}
    assert check_labels(content, SIZE) == ImageLabels((Box("a b", (0, 10.13, 200, 20)),), True)


@pytest.mark.parametrize(
    "box",
    [
        None,
        {},
        {"label": "dog"},
        {"label": "", "box": [0, 0, 9, 9]},
        {"label": "d\0g", "box": [0, 0, 9, 9]},
        {"label": "x" * 101, "box": [0, 0, 9, 9]},
        {"label": ["dog"], "box": [0, 0, 9, 9]},
        {"label": "dog", "box": "0,0,9,9"},
        {"label": "dog", "box": [0, 0, 9]},
        {"label": "dog", "box": [0, 0, 9, float("nan")]},
        {"label": "dog", "box": [0, 0, 9, 10**400]},
        {"label": "dog", "box": [0, 0, 9, True]},
        {"label": "dog", "box": [9, 0, 9, 9]},
        {"label": "dog", "box": [9, 0, 0, 9]},
        {"label": "dog", "box": [300, 0, 400, 9]},
        {"label": "dog", "box": [0, 0, 9, 9], "more": 1},
    ],
)
def test_other_boxes_are_refused(box: Any) -> None:
    with pytest.raises(ValueError, match=r"box|class"):
        check_labels({"boxes": [box], "done": False}, SIZE)


@pytest.mark.parametrize("content", [None, [], {}, {"boxes": []}, {"boxes": [], "done": 1}, {"boxes": 3, "done": True}])
def test_other_labels_are_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="boxes"):
        check_labels(content, SIZE)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        [],
        {},
        {"images": 3, "annotations": [], "categories": []},
        {"images": [{"id": 1, "file_name": "a", "width": 0, "height": 9}], "annotations": [], "categories": []},
        {"images": [], "annotations": [{"image_id": 1}], "categories": []},
        {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]},
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"^.*labels\.json: .*"):
        read_labels(path)
