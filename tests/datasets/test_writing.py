"""Write datasets so that they read back exactly, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.datasets import writing
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.loading import load_coco, load_splits, load_voc
from detector.datasets.writing import WRITTEN_FORMATS, write_dataset
from tests.datasets.exports import draw_image

Box = tuple[float, float, float, float]
WIDTH, HEIGHT = 60, 40


def corner(limit: int) -> st.SearchStrategy[float]:
    """Whole pixels, and any number that a labeling tool may make of a drag, in the precision of boxes."""
    fractions = st.floats(2**-10, limit - 2**-10, width=32)
    return st.one_of(st.integers(0, limit).map(float), fractions)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    xs = sorted(draw(st.lists(corner(WIDTH), min_size=2, max_size=2, unique=True)))
    ys = sorted(draw(st.lists(corner(HEIGHT), min_size=2, max_size=2, unique=True)))
    return xs[0], ys[0], xs[1], ys[1]


def dataset_of(folder: Path, images: dict[str, Sequence[tuple[Box, int, bool]]], names: tuple[str, ...]) -> Dataset:
    annotations = []
    for name, objects in images.items():
        path = folder / name
        if not path.exists():
            draw_image(path, width=WIDTH, height=HEIGHT)
        annotations.append(
            Annotation(
                Path(name).stem,
                path,
                np.array([box for box, _, _ in objects], np.float32).reshape(-1, 4),
                np.array([label for _, label, _ in objects], np.int64),
                np.array([difficult for _, _, difficult in objects], bool),
            )
        )
    return Dataset(tuple(annotations), names, "data")


def contents(dataset: Dataset, difficult: bool = True) -> dict[str, object]:
    return {
        each.image_id: (
            each.boxes.tobytes(),
            [dataset.class_names[label] for label in each.labels],
            each.difficult.tolist() if difficult else None,
        )
        for each in dataset
    }


NAMES = ("nut", 'bolt & "washer" <M4>', "Mutter ä")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("a.jpg", "b.png"):
        draw_image(folder / name, width=WIDTH, height=HEIGHT)
    return folder


@pytest.mark.parametrize("format_name", WRITTEN_FORMATS)
@settings(max_examples=25)
@given(objects=st.lists(st.tuples(boxes(), st.integers(0, 2), st.booleans()), max_size=6))
def test_boxes_round_trip_exactly(format_name: str, photos: Path, objects: list[tuple[Box, int, bool]]) -> None:
    dataset = dataset_of(photos, {"a.jpg": objects, "b.png": []}, NAMES)
    with TemporaryDirectory() as folder:
        target = Path(folder) / "out"
        write_dataset({"train": dataset}, target, format_name)
        again = load_splits(target)
        assert list(again) == ["train"]
        held = format_name != "yolo"  # which does not know difficult objects
        assert contents(again["train"], held) == contents(dataset, held)


@pytest.mark.parametrize("format_name", WRITTEN_FORMATS)
def test_splits_and_classes_round_trip(format_name: str, photos: Path, tmp_path: Path) -> None:
    one: tuple[Box, int, bool] = ((0, 0.5, 60, 40), 1, False)
    train, val = dataset_of(photos, {"a.jpg": [one]}, NAMES), dataset_of(photos, {"b.png": [one]}, NAMES)
    write_dataset({"train": train, "val": val}, tmp_path / "two", format_name)
    again = load_splits(tmp_path / "two")
    assert {split: contents(each) for split, each in again.items()} == {
        "train": contents(train),
        "val": contents(val),
    }
    if format_name != "voc":  # whose classes are those of objects
        assert again["train"].class_names == NAMES
    write_dataset({"": train}, tmp_path / "one", format_name)
    assert list(load_splits(tmp_path / "one")) == [""]


def test_other_readers_read_them(photos: Path, tmp_path: Path) -> None:
    dataset = dataset_of(photos, {"a.jpg": [((3, 4.25, 60, 40), 0, True)], "b.png": []}, ("nut",))
    for name in ("voc", "coco"):
        write_dataset({"train": dataset}, tmp_path / name, name)
    assert contents(load_voc(tmp_path / "voc", "train", ("nut",))) == contents(dataset)
    content = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())
    (row,) = content["annotations"]
    assert (row["bbox"], row["area"], row["iscrowd"]) == ([3, 4.25, 57, 35.75], 57 * 35.75, 1)
    read = load_coco(tmp_path / "coco/annotations/instances_train.json", tmp_path / "coco/images")
    assert contents(read) == contents(dataset)


def test_images_are_copied_where_they_cannot_be_linked(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(writing.os, "link", refuse)
    dataset = dataset_of(photos, {"a.jpg": []}, ("nut",))
    before = (photos / "a.jpg").read_bytes()
    write_dataset({"": dataset}, tmp_path / "out", "coco")
    assert (tmp_path / "out/images/a.jpg").read_bytes() == before == (photos / "a.jpg").read_bytes()
    assert not (tmp_path / "out/images/a.jpg").samefile(photos / "a.jpg")


def test_images_of_one_name_are_kept_apart(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    images = [dataset_of(folder / part, {"a.jpg": []}, ("nut",))[0] for part in ("one", "two")]
    ids = ("one/a", "one_a")
    renamed = [replace(each, image_id=image_id) for image_id, each in zip(ids, images, strict=True)]
    write_dataset({"": Dataset(tuple(renamed), ("nut",), "data")}, tmp_path / "out", "coco")
    assert sorted(path.name for path in (tmp_path / "out/images").iterdir()) == ["one_a.jpg", "one_a_2.jpg"]


def test_ids_that_look_like_files_and_sizes_are_written(photos: Path, tmp_path: Path) -> None:
    (image,) = dataset_of(photos, {"a.jpg": []}, ("nut",))
    names = {"b.v2": "b.v2.jpg", "b.PNG": "b_PNG.jpg"}
    for image_id in names:
        dataset = Dataset((replace(image, image_id=image_id),), ("nut",), "data")
        write_dataset({"": dataset}, tmp_path / image_id, "voc")
        assert [path.name for path in (tmp_path / image_id / "JPEGImages").iterdir()] == [names[image_id]]
        (xml,) = (tmp_path / image_id / "Annotations").iterdir()
        size = ElementTree.parse(xml).getroot().find("size")
        assert size is not None
        assert [(each.tag, each.text) for each in size] == [("width", "60"), ("height", "40"), ("depth", "3")]


def test_nothing_is_lost_or_half_written(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = dataset_of(photos, {"a.jpg": [((3, 4, 6, 8), 0, False)]}, ("nut",))
    target = tmp_path / "out"
    target.mkdir()
    write_dataset({"": dataset}, target, "coco")  # an empty folder is no loss
    with pytest.raises(FileExistsError, match="out: exists and is not empty"):
        write_dataset({"": dataset}, target, "yolo")
    assert not (target / "data.yaml").exists()

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "yolo_lines", fail)
    with pytest.raises(OSError, match="No space"):
        write_dataset({"": dataset}, target, "yolo", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert contents(load_splits(target)[""]) == contents(dataset)
    monkeypatch.undo()
    write_dataset({"": dataset}, target, "yolo", overwrite=True)
    assert sorted(path.name for path in target.iterdir()) == ["classes.txt", "data.yaml", "images", "labels"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_rename_keeps_the_old_folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = dataset_of(photos, {"a.jpg": []}, ("nut",))
    write_dataset({"": dataset}, tmp_path / "out", "coco")
    plain = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.suffix == ".tmp":
            raise OSError(5, "Input/output error")
        return plain(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Input/output"):
        write_dataset({"": dataset}, tmp_path / "out", "yolo", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert contents(load_splits(tmp_path / "out")[""]) == contents(dataset)


def test_data_that_do_not_read_back_are_not_written(photos: Path, tmp_path: Path) -> None:
    dataset = dataset_of(photos, {"a.jpg": [((3, 4, 6, 8), 0, False)]}, (" nut",))
    with pytest.raises(ValueError, match=r"a\.jpg cannot be written as voc without a change"):
        write_dataset({"": dataset}, tmp_path / "out", "voc")
    assert not list(tmp_path.iterdir())


def test_yolo_classes_are_where_tools_look(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    dataset = dataset_of(folder, {"classes.jpg": [((0, 0, 6, 4), 1, False)]}, ("nut", "a  bolt"))
    write_dataset({"train": dataset}, tmp_path / "out", "yolo")
    for place in ("", "labels/train"):
        assert (tmp_path / "out" / place / "classes.txt").read_text() == "nut\na bolt\n"
    # an image of that name gives way to it
    assert (tmp_path / "out/labels/train/classes_2.txt").read_text() == "1 0.05 0.05 0.1 0.1\n"
