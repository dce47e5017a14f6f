"""Load splits in every way, with the same treatment of issues and unlabeled images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.datasets.check import load_checked_splits
from detector.datasets.issues import Issue, IssueKind
from detector.datasets.loading import DataSource, load_dataset, load_splits, load_voc
from detector.images.files import write_image
from tests.datasets.exports import draw_image, write_export


def broken_ultralytics(folder: Path) -> Path:
    """Four images to train on: in the labels of one is an empty box, one has none."""
    root = write_export("ultralytics", folder)
    draw_image(root / "images/train/more.jpg")
    labels = root / "labels/train/a.txt"
    labels.write_text(f"{labels.read_text()}\n1 0.5 0.5 0 0.2\n")
    return root


def ids(datasets: Any) -> set[str]:
    return {Path(each.image_id).name for dataset in datasets for each in dataset}


@pytest.mark.parametrize("way", ["split", "list", "held out", "whole", "all"])
def test_issues_unlabeled_images_and_notes_in_every_way_to_load(way: str, tmp_path: Path) -> None:
    root = broken_ultralytics(tmp_path)
    if way in ("held out", "whole"):
        description = root / "data.yaml"
        description.write_text(description.read_text().replace("images/val", "images/train"))
    images = tmp_path / "list.txt"
    images.write_text("\nimages/train/a\n  \nmore\n", encoding="utf-8")
    issues: list[Issue] = []
    logged: list[str] = []

    def read(unlabeled: Any) -> set[str]:
        issues.clear()
        given: Any = {"report": issues.append, "log": logged.append}
        if way == "held out":
            sources = (DataSource(root, split, hold_out=0.5, unlabeled=unlabeled) for split in ("train", "val"))
            return ids(load_dataset(source, **given) for source in sources)
        if way == "all":
            return ids(load_splits(DataSource(root, unlabeled=unlabeled), **given).values())
        split = {"split": "train", "list": str(images), "whole": None}[way]
        return ids([load_dataset(DataSource(root, split, unlabeled=unlabeled), **given)])

    found = read("background")
    assert {"a", "more"} <= found
    assert {each.line.partition(": ")[2] for each in issues} == {"object 3: the box is empty: 1 0.5 0.5 0 0.2"}
    assert any("images without annotation are used as images without objects" in line for line in logged)
    if way == "list":
        assert found == {"a", "more"}
        with pytest.raises(ValueError, match="there is no image 'more'"):
            read("skip")
    elif way != "held out":  # which two images are too few for
        assert read("skip") == {"a", "b"}


def test_the_training_split_comes_first(tmp_path: Path) -> None:
    splits = load_checked_splits(DataSource(write_export("roboflow-coco", tmp_path)))
    assert [each.name for each in splits] == [f"roboflow-coco {name}" for name in ("train", "val", "test")]
    (whole,) = load_checked_splits(DataSource(write_export("labelimg", tmp_path)))
    assert whole.name == "labelimg"
    root = write_export("open-images", tmp_path)
    (root / "train-annotations-bbox.csv").unlink()
    with pytest.raises(ValueError, match=r"open-images: there is no split 'train', there are: val"):
        load_checked_splits(DataSource(root))


def test_empty_lists_are_errors(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(" \n\n")
    with pytest.raises(ValueError, match="lists no images"):
        load_dataset(DataSource(write_export("labelimg", tmp_path), str(tmp_path / "list.txt")))


@pytest.mark.parametrize(("name", "description"), [("cvat-voc", "CVAT PASCAL VOC"), ("voc", "VOC devkit")])
def test_devkits_of_cvat_are_recognized(name: str, description: str, tmp_path: Path) -> None:
    root = write_export("cvat-voc", tmp_path)
    if name == "voc":
        (root / "labelmap.txt").unlink()
    logged: list[str] = []
    load_splits(root, log=logged.append)
    assert logged[0].startswith(f"{root}: {description}; ")


def test_trainval_replaces_a_missing_train(tmp_path: Path) -> None:
    root = write_export("cvat-voc", tmp_path)
    lists = root / "ImageSets/Main"
    (lists / "default.txt").rename(lists / "trainval.txt")
    (lists / "test.txt").write_text("frame_000000\n")
    assert {name: len(each) for name, each in load_splits(root).items()} == {"train": 2, "test": 1}


def test_equal_train_and_val_become_one_split(tmp_path: Path) -> None:
    root = write_export("ultralytics", tmp_path)
    (root / "data.yaml").write_text("names: [no, nut]\ntrain: images/train\nval: images/train\ntest: images/val")
    assert {name: len(each) for name, each in load_splits(root).items()} == {"": 2, "test": 1}


def test_held_out_fraction(tmp_path: Path) -> None:
    root = write_export("labelimg-yolo", tmp_path)
    for number in range(9):
        for suffix in (".jpg", ".txt"):
            shutil.copy(root / f"a{suffix}", root / f"{number}{suffix}")
    splits = load_splits(DataSource(root, hold_out=0.4))
    assert {name: len(each) for name, each in splits.items()} == {"train": 6, "val": 4}
    val = load_dataset(DataSource(root, "val", hold_out=0.4))
    assert len(val) == 4
    assert not ids([val]) & ids([load_dataset(DataSource(root, "train", hold_out=0.4))])


@pytest.mark.parametrize(("corner", "reported"), [("61", False), ("61.01", True)])
def test_one_pixel_outside_is_rounding(corner: str, reported: bool, tmp_path: Path) -> None:
    root = write_export("labelimg", tmp_path)
    xml = root / "IMG 1.xml"
    xml.write_text(xml.read_text().replace("<xmax>60<", f"<xmax>{corner}<"))
    issues: list[Issue] = []
    dataset = load_dataset(root, report=issues.append)
    assert [each.kind for each in issues] == [IssueKind.OUTSIDE] * reported
    assert dataset[0].boxes[1].tolist() == [30, 10, 60, 40]


@pytest.mark.parametrize("size", [("<width>60<", "<width>0<"), ("<height>40<", "<height>0<")])
def test_a_size_of_zero_is_unknown(size: tuple[str, str], tmp_path: Path) -> None:
    root = write_export("labelimg", tmp_path)
    xml = root / "IMG 1.xml"
    xml.write_text(xml.read_text().replace(*size))
    issues: list[Issue] = []
    assert len(load_dataset(root, report=issues.append)) == 3
    assert issues == []


def test_polygons_become_their_bounding_boxes(tmp_path: Path) -> None:
    root = write_export("labelimg-yolo", tmp_path)
    (root / "a.txt").write_text("0 0.1 0.2 0.5 0.3 0.4 0.9\n")
    (image,) = load_dataset(root)
    assert image.boxes[0].tolist() == pytest.approx([6, 8, 30, 36])


def test_open_images_rows_of_missing_images_are_counted(tmp_path: Path) -> None:
    root = write_export("open-images", tmp_path)
    rows = root / "train-annotations-bbox.csv"
    lines = rows.read_text().splitlines()
    other = lines[1].replace("000026e7ee790996", "ffffffffffffffff")
    rows.write_text("\n".join([*lines, other, other, other.replace("ffff", "eeee")]))
    logged: list[str] = []
    load_splits(root, log=logged.append)
    assert logged[0].startswith(f"{root}: Open Images CSV, without the boxes of 3 missing images; images: ")
    rows.write_text("\n".join(lines[:3]))
    load_splits(root, log=logged.append)
    assert logged[-1].startswith(f"{root}: Open Images CSV; images: ")


def test_the_folder_of_a_csv_file_names_its_split(tmp_path: Path) -> None:
    root = write_export("open-images", tmp_path)
    (root / "train-annotations-bbox.csv").rename(root / "train/boxes.csv")
    (root / "validation-annotations-bbox.csv").rename(root / "validation/boxes.csv")
    assert {name: ids([each]) for name, each in load_splits(root).items()} == {
        "train": {"000026e7ee790996"},
        "val": {"0001eeaf4aed83f9"},
    }


def test_a_box_that_is_empty_in_float32_is_left_out_of_a_devkit(tmp_path: Path) -> None:
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / folder).mkdir(parents=True)
    write_image(tmp_path / "JPEGImages" / "a.jpg", np.zeros((60, 80, 3), np.uint8))
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    boxes = ("<xmin>20.00000001</xmin><xmax>19.00000002</xmax>", "<xmin>20</xmin><xmax>40</xmax>")
    objects = (
        f"<object><name>nut</name><bndbox>{each}<ymin>1</ymin><ymax>9</ymax></bndbox></object>" for each in boxes
    )
    (tmp_path / "Annotations" / "a.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    issues: list[Issue] = []
    (annotation,) = load_voc(tmp_path, "train", None, issues.append)
    assert annotation.boxes.tolist() == [[19, 0, 40, 9]]
    assert [issue.kind for issue in issues] == [IssueKind.EMPTY_BOX]
