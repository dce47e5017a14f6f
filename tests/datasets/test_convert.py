"""Conversions between formats keep every box, name, flag, split and image."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.loading import load_splits
from detector.datasets.writing import WRITTEN_FORMATS, write_dataset
from tests.datasets.exports import IMAGES, draw_image, write_export

WIDTH, HEIGHT = 60, 40
Contents = dict[str, list[tuple[bytes, list[tuple[str, list[float], bool]]]]]

letters = st.characters(blacklist_categories=("C", "Z"))
"""All but control characters, surrogates and spaces of any kind."""
words = st.text(letters, min_size=1, max_size=5)
names = st.lists(words, min_size=1, max_size=3).map(" ".join)
corners = st.one_of(st.integers(0, 40).map(float), st.floats(2**-10, 40, width=32))
sides = st.lists(corners, min_size=2, max_size=2, unique=True).map(sorted)
objects = st.lists(st.tuples(sides, sides, st.integers(0, 2), st.booleans()), max_size=4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / name for name in ("one/a.jpg", "two/a.jpg", "ä b, c.png", "d.v2.jpg")]
    for number, path in enumerate(paths):
        draw_image(path, width=WIDTH, height=HEIGHT)
        path.write_bytes(path.read_bytes() + bytes([number]))  # each has its own content
    return paths


def annotation(path: Path, image_id: str, own: list[tuple[list[float], list[float], int, bool]]) -> Annotation:
    boxes = [(x1, y1, x2, y2) for (x1, x2), (y1, y2), _, _ in own]
    labels = [label for _, _, label, _ in own]
    flags = [difficult for *_, difficult in own]
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    return Annotation(image_id, path, rows, np.array(labels, int), np.array(flags, bool))


def contents(splits: dict[str, Dataset], difficult: bool = True) -> Contents:
    """Return the content of each image, with its objects, by split and in an order of its own."""
    return {
        split: sorted(
            (
                each.path.read_bytes(),
                [
                    (dataset.class_names[label], box, difficult and bool(flag))
                    for label, box, flag in zip(each.labels, each.boxes.tolist(), each.difficult, strict=True)
                ],
            )
            for each in dataset
        )
        for split, dataset in splits.items()
    }


@settings(max_examples=8)
@given(
    class_names=st.lists(names, min_size=3, max_size=3, unique_by=str.casefold),
    own=st.lists(objects, min_size=4, max_size=4).filter(any),
)
def test_any_format_becomes_any_other(photos: list[Path], class_names: list[str], own: list[Any]) -> None:
    ids = ("one/a", "two/a", "ä b, c", "d.v2")
    annotations = [annotation(path, name, each) for path, name, each in zip(photos, ids, own, strict=True)]
    splits = {
        "train": Dataset(tuple(annotations[:2]), tuple(class_names), "data"),
        "val": Dataset(tuple(annotations[2:]), tuple(class_names), "data"),
    }
    read = splits
    difficult = True
    with TemporaryDirectory() as folder:
        # each pair of formats in either direction
        for number, format_name in enumerate(("coco", "voc", "coco", "yolo", "voc", "yolo", "coco")):
            difficult = difficult and format_name != "yolo"  # which does not know difficult objects
            write_dataset(read, Path(folder, str(number)), format_name)
            read = load_splits(Path(folder, str(number)))
            assert contents(read, difficult) == contents(splits, difficult)


@pytest.mark.parametrize("name", IMAGES)
def test_every_export_becomes_every_format(name: str, tmp_path: Path) -> None:
    splits = load_splits(write_export(name, tmp_path))
    for format_name in WRITTEN_FORMATS:
        write_dataset(splits, tmp_path / format_name, format_name)
        difficult = format_name != "yolo"
        assert contents(load_splits(tmp_path / format_name), difficult) == contents(splits, difficult)
