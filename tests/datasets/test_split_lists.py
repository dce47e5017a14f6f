"""Splits by lists and folders, as every tool spells them: none is lost without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detector.datasets.check import load_checked_splits
from detector.datasets.loading import DataSource, load_dataset, load_splits
from detector.datasets.split_lists import FilesByName, read_list
from tests.datasets.exports import draw_image
from tests.datasets.own_files import draw, expected, read, write_labels, write_xml

TWO = expected(train="abc", val="d")


def write_devkit(
    root: Path, lists: dict[str, str | bytes], folder: str = "ImageSets/Main", xml: str = "Annotations"
) -> Path:
    draw(root / "JPEGImages")
    write_xml(root / xml)
    put(root / folder, lists)
    return root


def put(folder: Path, files: dict[str, str | bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    "train",
    [
        "a 1\nb\nc\n",
        "a 1.jpg\nb.jpg\nc.jpg\n",
        "a 1.xml\r\nb.xml\r\nc.xml\r\n",
        "a 1  1\nb -1\nc  0\n",
        "a 1.jpg 1\nb.jpg -1\nc.jpg 1\n",
        "# made by hand\n\n  a 1  \nb\nc",
        '"a 1" 1\n"b" -1\n"c" 1\n',
        "JPEGImages/a 1.jpg\n./JPEGImages/b.jpg\n/home/me/VOC2007/JPEGImages/c.jpg\n",
        "JPEGImages\\a 1.jpg\nC:\\data\\JPEGImages\\b.jpg\n..\\c\n",
        "JPEGImages/a 1.jpg Annotations/a 1.xml\nJPEGImages/b.jpg xmls/b.xml\nc.jpg c.xml\n",
        "a 1.jpg\tx\nb.jpg\tx\nc.jpg\tx\n",
        "A 1\nB\nC\n",
        "a 1\nb\nc\n".encode("utf-8-sig"),
        "a 1\nb\nc\n".encode("utf-16"),
    ],
)
def test_lines_of_lists_as_tools_write_them(train: str | bytes, tmp_path: Path) -> None:
    root = write_devkit(tmp_path / "own", {"train.txt": train, "val.txt": "d\n"})
    assert read(root) == TWO


@pytest.mark.parametrize(
    ("folder", "xml"),
    [
        ("ImageSets/Main", "annotations"),
        ("imagesets/main", "Annotations"),
        ("imageSets/MAIN", "Annotation"),
        ("ImageSets", "xml"),
    ],
)
def test_folders_of_a_devkit_in_any_case(folder: str, xml: str, tmp_path: Path) -> None:
    log: list[str] = []
    root = write_devkit(tmp_path / "own", {"train.txt": "a 1\nb\nc\n", "val.txt": "d\n"}, folder, xml)
    assert read(root, log) == TWO
    assert log[0].startswith(f"{root}: VOC devkit; ")


@pytest.mark.parametrize(
    "lists",
    [
        {"nut_train.txt": "a 1 1\nb 1\nc -1\n", "bolt_train.txt": "a 1 -1\nb 1\nc 1\n", "nut_val.txt": "d 1\n"},
        {"train_list.txt": "a 1\nb\nc\n", "val_list.txt": "d\n"},
        {"2012_train.txt": "a 1\nb\nc\n", "2012_val.txt": "d\n"},
        {"trainval.txt": "a 1\nb\nc\n", "Validation.txt": "d\n"},
        {"train.txt": "a 1\nb\nc\n", "val.txt": "d\n", "trainval.txt": "a 1\nb\nc\nd\n", "dog_train.txt": "a 1 1\n"},
    ],
)
def test_names_of_lists(lists: dict[str, str | bytes], tmp_path: Path) -> None:
    assert read(write_devkit(tmp_path, lists)) == TWO


def test_an_image_of_two_classes_is_on_one_side(tmp_path: Path) -> None:
    lists: dict[str, str | bytes] = {
        "nut_train.txt": "a 1 1\nb 1\n",
        "nut_val.txt": "d 1\n",
        "bolt_train.txt": "c 1\n",
        "bolt_val.txt": "b 1\nd -1\n",
    }
    log: list[str] = []
    assert read(write_devkit(tmp_path, lists), log) == TWO
    assert f"{tmp_path}: 1 images are on lists of val and of a split before it: they stay in that" in log


def test_a_list_that_names_nothing_is_an_error(tmp_path: Path) -> None:
    root = write_devkit(tmp_path, {"train.txt": "a 1\nb\nc\n", "val.txt": "x\ny\n"})
    with pytest.raises(
        ValueError, match=r"val\.txt: none of its 2 lines, such as 'x', names an annotation or an image"
    ):
        load_splits(root)


def test_other_lists_are_named(tmp_path: Path) -> None:
    log: list[str] = []
    read(write_devkit(tmp_path, {"train.txt": "a 1\nb\nc\n", "val.txt": "d\n", "mini.txt": "b\n"}), log)
    assert f"{tmp_path}/ImageSets/Main/mini.txt: not used beside the lists train, val" in log


def test_lists_beside_annotations(tmp_path: Path) -> None:
    """PaddleDetection's and PaddleX's."""
    draw(tmp_path / "images")
    write_xml(tmp_path / "annotations")
    train = "".join(f"./images/{name}.jpg ./annotations/{name}.xml\n" for name in ("a 1", "b", "c", "gone"))
    put(
        tmp_path,
        {"train.txt": train, "valid_list.txt": "images/d.jpg annotations/d.xml\n", "label_list.txt": "nut\nbolt\n"},
    )
    log: list[str] = []
    assert read(tmp_path, log) == TWO
    assert f"{tmp_path}/train.txt: 1 of its 4 lines, such as './images/gone.jpg', name no annotation" in log


LISTED = "data/obj_train_data/a 1.jpg\ndata/obj_train_data/b.jpg\ndata/obj_train_data/c.jpg\n"
OBJ_DATA = "classes = 2\ntrain  = data/first.txt\nvalid = data/second.txt\n"


@pytest.mark.parametrize(
    "lists",
    [
        {"train.txt": LISTED, "valid.txt": "data/d.jpg\n"},
        {"obj.data": OBJ_DATA, "first.txt": LISTED, "second.txt": "d.jpg\n"},
        {},
    ],
)
def test_subsets_of_cvat_s_yolo(lists: dict[str, str | bytes], tmp_path: Path) -> None:
    for folder, names in (("obj_train_data", ("a 1", "b", "c")), ("obj_Validation_data", ("d",))):
        draw(tmp_path / folder, names)
        write_labels(tmp_path / folder, names)
    put(tmp_path, {"obj.names": "nut\nbolt\n", **lists})
    assert read(tmp_path) == TWO


@pytest.mark.parametrize(
    ("train", "val"), [("train2017", "val2017"), ("train_images", "valid_images"), ("Train", "VAL")]
)
@pytest.mark.parametrize(("images", "labels"), [("images/{}", "labels/{}"), ("{}/images", "{}/labels"), ("{}", "{}")])
def test_folders_named_after_splits(train: str, val: str, images: str, labels: str, tmp_path: Path) -> None:
    for folder, names in ((train, ("a 1", "b", "c")), (val, ("d",))):
        draw(tmp_path / images.format(folder), names)
        write_labels(tmp_path / labels.format(folder), names)
    put(tmp_path, {"classes.txt": "nut\nbolt\n"})
    assert read(tmp_path) == TWO


def test_folders_of_images_name_the_splits_of_annotations_in_one_folder(tmp_path: Path) -> None:
    draw(tmp_path / "images/train", ("a 1", "b", "c"))
    draw(tmp_path / "images/val", ("d",))
    write_xml(tmp_path / "annotations")
    assert read(tmp_path) == TWO


def test_images_outside_of_the_splits_are_named_or_trained_on(tmp_path: Path) -> None:
    draw(tmp_path, ("a 1", "b"))
    write_xml(tmp_path, ("a 1", "b"))
    draw(tmp_path / "test", ("d",))
    write_xml(tmp_path / "test", ("d",))
    assert {each.path.stem for each in load_dataset(tmp_path)} == {"a 1", "b"}
    assert {each.path.stem for each in load_dataset(DataSource(tmp_path, "train"))} == {"a 1", "b"}
    assert {each.path.stem for each in load_checked_splits(DataSource(tmp_path))[0]} == {"a 1", "b"}
    draw(tmp_path / "train", ("c",))
    write_xml(tmp_path / "train", ("c",))
    log: list[str] = []
    assert [each.path.stem for each in load_dataset(tmp_path, log=log.append)] == ["c"]
    # a dry run takes the same images as the training
    assert [each.path.stem for each in load_checked_splits(DataSource(tmp_path))[0]] == ["c"]
    assert f"{tmp_path}: 2 images are in no split and not used, such as {tmp_path}/a 1.xml" in log


def test_equal_names_are_distinguished_by_their_folders(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("labels/train/x.txt", "labels/val/x.txt", "x.txt")]
    find = FilesByName(paths).find
    assert find("images/val/x.jpg") == paths[1]
    assert find("/other/train/x.png") == paths[0]
    assert find("x") == paths[2]
    assert find("y") is None


def test_a_flag_is_not_part_of_a_name_unless_an_image_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("photo 1\nphoto 0\n#1\n# note\n")
    find = FilesByName([tmp_path / "photo 1.xml", tmp_path / "photo 0.xml", tmp_path / "#1.xml"]).find
    assert [each.name for each in read_list(path, find)] == ["photo 1", "photo 0", "#1"]
    find = FilesByName([tmp_path / "photo.xml"]).find
    assert [each.name for each in read_list(path, find)] == ["photo", "photo"]


def test_images_by_one_name_are_those_of_the_split(tmp_path: Path) -> None:
    content = {"categories": [{"id": 1, "name": "nut"}], "images": [{"id": 1, "file_name": "x.jpg"}], "annotations": []}
    for split in ("train2017", "val2017"):
        draw_image(tmp_path / split / "x.jpg")
        put(tmp_path / "annotations", {f"instances_{split}.json": json.dumps(content)})
    found = load_splits(tmp_path)
    assert {name: each[0].path.parent.name for name, each in found.items()} == {"train": "train2017", "val": "val2017"}
