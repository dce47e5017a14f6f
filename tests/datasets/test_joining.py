"""Join datasets: classes by name, splits by name, ids made unique, corrected labels instead of earlier ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from detector.datasets.joining import without_copies
from detector.datasets.loading import DataSource, load_dataset, load_splits
from tests.datasets.exports import draw_image, write_export
from tests.datasets.own_files import draw, write_labels, write_xml


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """A set in YOLO's format, without splits, and one in VOC's, with a class more, whose image "b" is another."""
    first, second = tmp_path / "first", tmp_path / "second"
    draw(first, ("a 1", "b"))
    write_labels(first, ("a 1", "b"))
    (first / "classes.txt").write_text("nut\nbolt\nscrew\n")
    draw(second, ("b", "c"), ".png")
    write_xml(second, ("b", "c"))
    xml = second / "c.xml"
    xml.write_text(xml.read_text().replace("bolt", "axle"))
    return first, second


def test_classes_and_images_of_both(two: tuple[Path, Path]) -> None:
    log: list[str] = []
    (joined,) = load_splits(DataSource(two[0], more=(two[1],)), log=log.append).values()
    assert joined.class_names == ("nut", "bolt", "screw", "axle")
    assert joined.name == "first + second"
    found = {each.image_id: [joined.class_names[label] for label in each.labels] for each in joined}
    assert found == {"a 1": ["nut"], "b": ["bolt", "nut"], "second/b": ["bolt", "nut"], "c": ["axle"]}
    assert [line.split(": ")[1].split(";")[0] for line in log] == ["YOLO", "VOC XML"]


def test_images_without_a_split_are_trained_on(two: tuple[Path, Path], tmp_path: Path) -> None:
    divided = write_export("roboflow-coco", tmp_path)
    splits = load_splits(DataSource(two[0], more=(divided,)))
    assert {name: len(each) for name, each in splits.items()} == {"train": 4, "val": 2, "test": 2}
    source = DataSource(two[0], "val", more=(divided,))
    assert [each.image_id for each in load_dataset(source)] == [each.image_id for each in splits["val"]]


def test_the_last_labels_of_an_image_count_in_its_first_split(two: tuple[Path, Path], tmp_path: Path) -> None:
    """Corrected drafts of held-out images stay held out."""
    base = tmp_path / "base"
    for split, stem in (("train", "x"), ("val", "y")):
        draw_image(base / split / f"{stem}.jpg")
        write_xml(base / split, ("b",))
        (base / split / "b.xml").rename(base / split / f"{stem}.xml")
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    shutil.copy(base / "val/y.jpg", drafts / "y.jpg")
    write_xml(drafts, ("d",))
    (drafts / "d.xml").rename(drafts / "y.xml")
    log: list[str] = []
    splits = load_splits(DataSource(base, more=(drafts,)), log=log.append)
    assert {name: [each.path for each in dataset] for name, dataset in splits.items()} == {
        "train": [base / "train/x.jpg"],
        "val": [drafts / "y.jpg"],
    }
    assert splits["val"][0].image_id == "y"
    assert len(splits["val"][0].labels) == 1
    assert "1 images are in several of the data: their labels are those of the last" in log


def test_a_held_out_image_that_is_given_again_for_training_stays_held_out(tmp_path: Path) -> None:
    names = {"first": {"train": "b", "val": "c"}, "second": {"train": "c", "val": "b"}, "third": {"test": "c"}}
    for folder, splits in names.items():
        for split, stem in splits.items():
            draw_image(tmp_path / folder / split / f"{stem}.jpg")
            write_xml(tmp_path / folder / split, (stem,))
    first, *more = (tmp_path / folder for folder in names)
    found = load_splits(DataSource(first, more=tuple(more)))
    assert {name: [each.path for each in dataset] for name, dataset in found.items()} == {
        "train": [tmp_path / "second/val/b.jpg"],
        "val": [tmp_path / "third/test/c.jpg"],
    }


def test_joined_data_are_held_out_together(two: tuple[Path, Path]) -> None:
    source = DataSource(two[0], hold_out=0.25, more=(two[1],))
    parts = load_splits(source)
    assert {name: len(each) for name, each in parts.items()} == {"train": 3, "val": 1}
    for name, part in parts.items():
        again = load_dataset(DataSource(two[0], name, hold_out=0.25, more=(two[1],)))
        assert [each.image_id for each in again] == [each.image_id for each in part]


def test_folders_of_one_name_keep_their_images_apart(two: tuple[Path, Path], tmp_path: Path) -> None:
    twin = tmp_path / "below" / "first"
    shutil.copytree(two[1], twin)
    (joined,) = load_splits(DataSource(two[0], more=(two[1], twin))).values()
    assert [each.image_id for each in joined] == ["a 1", "b", "first-2/b", "c"]


def test_copies_are_recognized_by_content(tmp_path: Path) -> None:
    for name, content in (("a", "12"), ("b", "13"), ("c", "123"), ("d", "12")):
        (tmp_path / name).write_text(content)
    paths = [tmp_path / name for name in ("a", "b", "c", "gone")]
    assert without_copies(paths, [tmp_path / "d"]) == paths[1:]
    assert without_copies(paths, []) == paths
