"""YOLO's class files, descriptions and label files as every tool writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.datasets.issues import Issue
from detector.datasets.loading import load_splits
from detector.datasets.readers.yolo import is_class_file
from tests.datasets.exports import draw_image
from tests.datasets.own_files import draw, expected, read, write_labels
from tests.datasets.readers.reading import read as read_files


@pytest.mark.parametrize(
    "name",
    [
        *("classes.txt", "labels.txt", "obj.names", "_darknet.labels", "predefined_classes.txt", "voc.names"),
        *("class_names.txt", "label_list.txt", "Classes.txt", "names.txt", "categories.txt"),
    ],
)
def test_class_files_of_every_tool(name: str, tmp_path: Path) -> None:
    draw(tmp_path)
    write_labels(tmp_path)
    (tmp_path / name).write_text("nut\n\nbolt\r\n")
    assert read(tmp_path) == expected(all="abcd")


@pytest.mark.parametrize("name", ["list.txt", "train.txt", "notes.txt", "a.txt", "labelmap.txt"])
def test_other_texts_are_no_class_files(name: str) -> None:
    assert not is_class_file(Path(name))


@pytest.mark.parametrize(
    "item",
    [
        "item {{\n  id: {}\n  name: '{}'\n}}\n",
        'item {{\n  name: "{1}"\n  id: {0}\n}}\n',
        "item {{ id: {} display_name: '{}' }}\n",
    ],
)
def test_label_maps_count_from_one(item: str, tmp_path: Path) -> None:
    draw(tmp_path)
    write_labels(tmp_path)
    path = tmp_path / "label_map.pbtxt"
    path.write_text("".join(item.format(number, name) for number, name in ((2, "bolt"), (1, "nut"))))
    assert read(tmp_path) == expected(all="abcd")
    path.write_text(item.format(0, "nut"))
    with pytest.raises(ValueError, match=r"label_map\.pbtxt: ids of classes must be 1 to 1, but are 0"):
        load_splits(tmp_path)


def test_predefined_classes_are_only_a_start(tmp_path: Path) -> None:
    draw(tmp_path)
    write_labels(tmp_path)
    (tmp_path / "predefined_classes.txt").write_text("dog\nperson\n")
    (tmp_path / "classes.txt").write_text("nut\nbolt\n")
    assert read(tmp_path) == expected(all="abcd")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_windows_programs(encoding: str, tmp_path: Path) -> None:
    draw(tmp_path)
    write_labels(tmp_path)
    (tmp_path / "classes.txt").write_bytes("nut\r\nbolt\r\n".encode(encoding))
    for path in tmp_path.glob("?*.txt"):
        if path.name != "classes.txt":
            path.write_bytes(path.read_text().encode(encoding))
    assert read(tmp_path) == expected(all="abcd")


def test_class_files_of_other_encodings_are_named(tmp_path: Path) -> None:
    draw(tmp_path)
    write_labels(tmp_path)
    (tmp_path / "classes.txt").write_bytes("螺母\n螺栓\n".encode("gbk"))
    with pytest.raises(ValueError, match=r"classes\.txt: is not text in UTF-8 or UTF-16; save it as UTF-8"):
        load_splits(tmp_path)


def test_labels_without_class_names_say_what_is_missing(tmp_path: Path) -> None:
    draw(tmp_path)
    write_labels(tmp_path)
    with pytest.raises(
        ValueError, match=r"YOLO labels need a data\.yaml or a file that names the classes: classes\.txt"
    ):
        load_splits(tmp_path)


IMAGES = "[images/a 1.jpg, images/b.jpg, ./images/c.jpg]"


@pytest.mark.parametrize(
    ("description", "splits"),
    [
        ("names: [nut, bolt]\nnc: 2\n", {"all": "abcd"}),
        ("names: {0: nut, 1: bolt}\n", {"all": "abcd"}),
        (f"names: [nut, bolt]\ntrain: {IMAGES}\nval: [images/d.jpg]\n", {"train": "abc", "val": "d"}),
        (
            "names: [nut, bolt]\npath: /their/disk/set\ntrain: first.txt\nval: second.txt\n",
            {"train": "abc", "val": "d"},
        ),
        ("names: [nut, bolt]\ntrain: [first.txt, second.txt]\n", {"train": "abcd"}),
        ("names: [nut, bolt]\ntrain: ../images\nval: ../valid/photos\ntest:\n", {"train": "abcd"}),
    ],
)
def test_descriptions(description: str, splits: dict[str, str], tmp_path: Path) -> None:
    draw(tmp_path / "images")
    write_labels(tmp_path / "labels")
    (tmp_path / "data.yaml").write_text(description)
    (tmp_path / "first.txt").write_text(
        "/their/disk/set/images/a 1.jpg\n./images/b.jpg\nimages\\c.jpg\nimages/gone.jpg\n"
    )
    (tmp_path / "second.txt").write_text("./images/d.jpg\n")
    log: list[str] = []
    assert read(tmp_path, log) == expected(**splits)
    named = [line for line in log[1:] if "no annotation" in line or "there is no" in line]
    if "valid/photos" in description:
        assert named == [f"{tmp_path}/data.yaml: val: there is no '../valid/photos' below {tmp_path}; go on without it"]
    elif "first.txt" in description:
        assert named == [f"{tmp_path}/first.txt: 1 of its 4 lines, such as 'images/gone.jpg', name no annotation"]
    else:
        assert named == []


def test_notes_are_no_labels(tmp_path: Path) -> None:
    draw(tmp_path)
    write_labels(tmp_path)
    (tmp_path / "classes.txt").write_text("nut\nbolt\n")
    (tmp_path / "to do.txt").write_text("label more\n")
    (tmp_path / "log.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.txt").write_text("")
    assert read(tmp_path) == expected(all="abcd")
    (tmp_path / "gone.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    issues: list[Issue] = []
    load_splits(tmp_path, report=issues.append)
    assert [each.line for each in issues] == [f"{tmp_path}/gone.txt: there is no image 'gone' below {tmp_path}"]


def test_an_image_with_an_unreadable_object_is_left_out(tmp_path: Path) -> None:
    draw(tmp_path)
    write_labels(tmp_path)
    (tmp_path / "classes.txt").write_text("nut\nbolt\n")
    for name, line in (("b", "2 0.5 0.5 0.5 0.5"), ("c", "0 0.5 x 0.5 0.5")):
        (tmp_path / f"{name}.txt").write_text(f"0 0.5 0.5 0.5 0.5\n{line}\n")
    issues: list[Issue] = []
    (dataset,) = load_splits(tmp_path, report=issues.append).values()
    assert [each.path.stem for each in dataset] == ["a 1", "d"]
    assert len(issues) == 2


def test_boxes_drawn_backwards(tmp_path: Path) -> None:
    draw_image(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 -0.5 -0.25\n")
    (tmp_path / "classes.txt").write_text("nut\n")
    assert read(tmp_path) == {"": {"a": [("nut", 15, 15, 45, 25)]}}


@pytest.mark.parametrize("description", ["train: images/train\nval: images/val\n", "train: train.txt\nval: val.txt\n"])
def test_images_of_one_name_in_two_splits_keep_their_own_boxes(description: str, tmp_path: Path) -> None:
    files = {
        "data.yaml": f"names: [nut, bolt]\n{description}",
        "train.txt": "./images/train/a.jpg\n",
        "val.txt": "./images/val/a.jpg\n",
        "labels/train/a.txt": "0 0.5 0.5 0.5 0.5\n",
        "labels/val/a.txt": "1 0.25 0.25 0.5 0.5\n",
    }
    found = read_files(tmp_path, files, ("images/train/a.jpg", "images/val/a.jpg"))
    assert {split: [*images.values()] for split, images in found.splits.items()} == {
        "train": [[("nut", [15, 10, 45, 30])]],
        "val": [[("bolt", [0, 0, 30, 20])]],
    }
    assert not found.issues
