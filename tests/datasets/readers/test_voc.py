"""Read VOC folders."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.loading import load_splits, load_voc
from detector.datasets.readers.voc import VOC_CLASSES
from tests.datasets.own_files import draw, expected, read
from tests.datasets.own_files import write_xml as write_xml_of_all


def object_xml(name: str = "dog", box: tuple[str, ...] = ("48", "240", "195", "371"), extra: str = "") -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    corners = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A VOC folder with one image, two lists and a list of a class."""
    root = tmp_path / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("000012\n")
    (root / "ImageSets/Main/val.txt").write_text("000012\n")
    (root / "ImageSets/Main/dog_train.txt").write_text("000012  1\n")
    write_xml(root, object_xml())
    return root


def write_xml(root: Path, objects: str, image_id: str = "000012") -> None:
    (root / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_corners_become_zero_based_and_half_open(voc: Path) -> None:
    dataset = load_voc(voc, "train")
    assert len(dataset) == 1
    assert dataset.name == "VOC2007 train"
    assert dataset.class_names == VOC_CLASSES
    assert dataset[0].image_id == "000012"
    assert dataset[0].path == voc / "JPEGImages" / "000012.jpg"
    assert dataset[0].boxes.dtype == np.float32
    assert dataset[0].boxes.tolist() == [[47, 239, 195, 371]]
    assert dataset[0].labels.dtype == np.int64
    assert [dataset.class_names[label] for label in dataset[0].labels] == ["dog"]
    assert dataset[0].difficult.tolist() == [False]


def test_voc_classes_are_the_twenty_in_alphabetical_order() -> None:
    assert len(set(VOC_CLASSES)) == 20
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES)


def test_parts_of_a_person_are_not_objects(voc: Path) -> None:
    head = object_xml("head", ("1", "2", "3", "4")).replace("object>", "part>")
    write_xml(voc, object_xml("person", extra=head) + object_xml("dog", ("1", "1", "1", "1")))
    annotation = load_voc(voc, "train")[0]
    assert annotation.boxes.tolist() == [[47, 239, 195, 371], [0, 0, 1, 1]]
    assert annotation.labels.tolist() == [VOC_CLASSES.index("person"), VOC_CLASSES.index("dog")]


def test_difficult_flags_and_fractional_corners(voc: Path) -> None:
    objects = [
        object_xml(extra="<difficult>1</difficult>"),
        object_xml(extra="<difficult>0</difficult>", box=("45.70", "2", "60.25", "9")),
        object_xml(extra="<difficult/>"),
    ]
    write_xml(voc, "".join(objects))
    annotation = load_voc(voc, "train")[0]
    assert annotation.difficult.tolist() == [True, False, False]
    np.testing.assert_allclose(annotation.boxes[1], [44.7, 1, 60.25, 9], rtol=1e-6)


def test_image_without_objects(voc: Path) -> None:
    write_xml(voc, "")
    annotation = load_voc(voc, "train")[0]
    assert annotation.boxes.shape == (0, 4)
    assert annotation.labels.shape == annotation.difficult.shape == (0,)


def test_list_may_hold_columns_blanks_carriage_returns_and_a_byte_order_mark(voc: Path) -> None:
    write_xml(voc, object_xml("cat"), "a-b")
    (voc / "ImageSets/Main/odd.txt").write_bytes(b"\xef\xbb\xbf000012  1 \r\n\r\n  a-b -1\r\n\n")
    assert [annotation.image_id for annotation in load_voc(voc, "odd")] == ["000012", "a-b"]


@pytest.mark.parametrize("suffix", [".png", ".jpeg", ".JPG"])
def test_other_image_files_are_found(voc: Path, suffix: str) -> None:
    (voc / "JPEGImages" / f"000012{suffix}").touch()
    assert load_voc(voc, "train")[0].path.name == f"000012{suffix}"
    (voc / "JPEGImages" / "000012.jpg").touch()
    assert load_voc(voc, "train")[0].path.name == "000012.jpg"


@pytest.mark.parametrize("depth", [1, 2])
def test_folders_above(voc: Path, depth: int) -> None:
    devkit = voc.parent / "VOCdevkit"
    devkit.mkdir()
    moved = voc.rename(devkit / "VOC2007")
    assert load_voc((devkit, voc.parent)[depth - 1], "train")[0].path.parent == moved / "JPEGImages"


def test_several_years_above_are_named(voc: Path) -> None:
    (voc.parent / "VOC2012/ImageSets/Main").mkdir(parents=True)
    with pytest.raises(ValueError, match="several") as error:
        load_voc(voc.parent, "train")
    assert "VOC2007, VOC2012" in one_line(error)


def test_own_classes(voc: Path) -> None:
    write_xml(voc, object_xml("bolt") + object_xml("nut"))
    dataset = load_voc(str(voc), "train", ["nut", "bolt"])
    assert dataset.class_names == ("nut", "bolt")
    assert dataset[0].labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match="nut, nut"):
        load_voc(voc, "train", ["nut", "nut"])


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        (object_xml("dgo"), "unknown class 'dgo'"),
        (object_xml(""), "object without a name"),
        ("<object><name>dog</name></object>", "object without a bndbox"),
        (object_xml(box=("9", "1", "8", "5")), "bndbox is empty: 9, 1, 8, 5"),
        (object_xml(box=("one", "1", "8", "5")), "xmin must be a number, but got 'one'"),
        (object_xml(box=("1", "1", "nan", "5")), "xmax must be a number, but got 'nan'"),
        (object_xml(box=("1", "1", "8", "")), "ymax must be a number, but got ''"),
        ("<object>", "not a readable XML file"),
    ],
)
def test_bad_annotations_name_the_file_and_the_reason(voc: Path, objects: str, reason: str) -> None:
    write_xml(voc, objects)
    with pytest.raises(ValueError, match="xml: ") as error:
        load_voc(voc, "train")
    assert one_line(error).startswith(
        f"{voc / 'Annotations' / '000012.xml'}: {'' if 'XML' in reason else 'object 1: '}{reason}"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8\xff\xe0 no XML at all",
        b"<?xml version='1.0' encoding='no-such'?><annotation/>",
        b"<!DOCTYPE a [<!ENTITY e 'eeee'><!ENTITY f '&e;&e;'>]><annotation>&f;</annotation>",
        b"<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/hostname'>]><annotation>&e;</annotation>",
    ],
)
def test_files_that_are_not_annotations(voc: Path, content: bytes) -> None:
    (voc / "Annotations" / "000012.xml").write_bytes(content)
    with pytest.raises(ValueError, match=r"000012\.xml: not a readable XML file") as error:
        load_voc(voc, "train")
    one_line(error)


def test_missing_files(voc: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder") as error:
        load_voc(voc / "nowhere", "train")
    one_line(error)
    with pytest.raises(FileNotFoundError, match="holds neither ImageSets/Main nor"):
        load_voc(voc / "JPEGImages", "train")
    with pytest.raises(FileNotFoundError, match=r"test\.txt: no such list, there are train, val$"):
        load_voc(voc, "test")
    (voc / "Annotations/000012.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"Annotations/000012\.xml: no such annotation"):
        load_voc(voc, "train")


@pytest.mark.parametrize(("content", "reason"), [("\n \n", "lists no images"), ("a\nb\na\n", "lists image 'a' twice")])
def test_bad_lists(voc: Path, content: str, reason: str) -> None:
    (voc / "ImageSets/Main/train.txt").write_text(content)
    with pytest.raises(ValueError, match=rf"train\.txt: {reason}"):
        load_voc(voc, "train")


def annotate(boxes: Any, labels: Any, difficult: Any) -> Annotation:
    return Annotation("a", Path("a.jpg"), boxes, labels, difficult)


def test_annotation_checks_that_its_arrays_fit() -> None:
    fitting = annotate([[0, 0, 5, 5]], [0], [1])
    assert [array.dtype.name for array in (fitting.boxes, fitting.labels, fitting.difficult)] == [
        "float32",
        "int64",
        "bool",
    ]
    with pytest.raises(ValueError, match=r"boxes must have shape \(_, 4\), but got \(1, 5\)"):
        annotate([[0, 0, 5, 5, 5]], [0], [0])
    with pytest.raises(ValueError, match=r"labels must have shape \(1,\), but got \(2,\)"):
        annotate([[0, 0, 5, 5]], [0, 0], [0])
    with pytest.raises(ValueError, match=r"difficult must have shape \(1,\), but got \(0,\)"):
        annotate([[0, 0, 5, 5]], [0], [])


def test_dataset_is_a_sequence(voc: Path) -> None:
    dataset = load_voc(voc, "train")
    doubled = Dataset((dataset[0], dataset[0]), dataset.class_names, "doubled")
    assert len(doubled) == 2
    assert [annotation.image_id for annotation in doubled] == ["000012", "000012"]
    with pytest.raises(IndexError):
        doubled[2]


def test_real_folder(voc_root: Path) -> None:
    train, val = load_voc(voc_root, "train"), load_voc(voc_root, "val")
    assert not {one.image_id for one in train} & {one.image_id for one in val}
    for annotation in val.annotations[:50]:
        image = cv2.imread(str(annotation.path))
        assert image is not None
        height, width = image.shape[:2]
        assert len(annotation.boxes) > 0
        assert (annotation.boxes >= 0).all()
        assert (annotation.boxes[:, 2:] <= (width, height)).all()
    assert set(np.concatenate([one.labels for one in val])) == set(range(20))
    assert 0 < np.concatenate([one.difficult for one in val]).mean() < 0.5


@pytest.mark.parametrize(
    ("text", "difficult"),
    [("1", True), ("true", True), ("Yes", True), ("1.0", True), ("0", False), ("Unspecified", False), ("no", False)],
)
def test_difficult_as_words(text: str, difficult: bool, voc: Path) -> None:
    write_xml(voc, object_xml(extra=f"<difficult>{text}</difficult>"))
    assert load_voc(voc, "train")[0].difficult.tolist() == [difficult]


def test_boxes_drawn_backwards(voc: Path) -> None:
    write_xml(voc, object_xml(box=("50", "40", "11", "6")))
    assert load_voc(voc, "train")[0].boxes.tolist() == [[10, 5, 50, 40]]


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ("<polygon><x1>11</x1><y1>21</y1><x2>30</x2><y2>6</y2><x3>20</x3><y3>40</y3></polygon>", [10, 5, 30, 40]),
        ("<polygon><pt><x>11</x><y>21</y></pt><pt><x>30</x><y>40</y></pt></polygon>", [10, 20, 30, 40]),
        # 20 x 10 turned by a right angle
        ("<robndbox><cx>31</cx><cy>41</cy><w>20</w><h>10</h><angle>1.5707963</angle></robndbox>", [25, 30, 36, 51]),
    ],
)
def test_shapes_without_a_bndbox(shape: str, box: list[float], voc: Path) -> None:
    write_xml(voc, f"<object><name>dog</name>{shape}</object>")
    np.testing.assert_allclose(load_voc(voc, "train")[0].boxes, [box], atol=1e-4)


def test_labelme_s_converter_counts_from_zero(tmp_path: Path) -> None:
    """Of labelme2voc.py: source fields at the top, all empty."""
    draw(tmp_path / "JPEGImages")
    write_xml_of_all(tmp_path / "Annotations")
    marked = "<annotation><folder/><database/><annotation/><image/>"
    for path in (tmp_path / "Annotations").iterdir():
        path.write_text(path.read_text().replace("<annotation>", marked, 1))
    log: list[str] = []
    found = read(tmp_path, log)
    assert found[""]["b"] == [("bolt", 31, 5, 54, 36), ("nut", 3, 3, 14, 18)]
    assert log[0].startswith(f"{tmp_path}: LabelMe XML; ")


@pytest.mark.parametrize(("encoding", "declared"), [("gbk", "gb2312"), ("utf-16", "utf-16"), ("utf-8", "utf-16")])
def test_encodings_of_annotations(encoding: str, declared: str, tmp_path: Path) -> None:
    draw(tmp_path)
    write_xml_of_all(tmp_path, head=f'<?xml version="1.0" encoding="{declared}"?>', encoding=encoding)
    assert read(tmp_path) == expected(all="abcd")


def test_the_reason_is_named_if_no_annotation_can_be_read(tmp_path: Path) -> None:
    draw(tmp_path, ("b",))
    (tmp_path / "b.xml").write_bytes("<annotation><filename>螺母螺栓</filename></annotation>".encode("gbk"))
    with pytest.raises(ValueError, match=r"b\.xml: not a readable XML file \(is not text in UTF-8 or UTF-16"):
        load_splits(tmp_path)
