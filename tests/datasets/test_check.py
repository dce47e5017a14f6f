"""Load datasets with issues: each is reported and left out, or is an error."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.datasets.check import load_checked
from detector.datasets.dataset import Dataset
from detector.datasets.loading import DataSource, load_voc
from detector.datasets.readers.voc import VOC_CLASSES
from tests.fakes import coco_of


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A VOC folder with the images a, b and c of 60 x 40 pixels, a bolt on each and a nut on c."""
    root = tmp_path / "own"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/all.txt").write_text("a\nb\nc\n")
    for image_id in "abc":
        cv2.imwrite(str(root / "JPEGImages" / f"{image_id}.png"), np.zeros((40, 60, 3), np.uint8))
        write_objects(root, image_id, ("bolt", 11, 6, 30, 25))
    write_objects(root, "c", ("bolt", 1, 1, 60, 40), ("nut", 2, 3, 20, 30))
    return root


def write_objects(root: Path, image_id: str, *objects: tuple[str, float, float, float, float]) -> None:
    xml = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>"
        for name, x1, y1, x2, y2 in objects
    )
    (root / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{xml}</annotation>")


def load(root: Path, class_names: list[str] | None = None, strict: bool = False) -> Dataset:
    return load_checked(DataSource(root, "all", shorthand="voc"), class_names=class_names, strict=strict)


def contents(dataset: Dataset) -> list[tuple[str, list[list[float]], list[str]]]:
    names = dataset.class_names
    return [(each.image_id, each.boxes.tolist(), [names[label] for label in each.labels]) for each in dataset]


BOLT = ([[10, 5, 30, 25]], ["bolt"])
BOTH = ([[0, 0, 60, 40], [1, 2, 20, 30]], ["bolt", "nut"])


def test_valid_data_load_without_issues(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = load(voc, strict=True)
    assert dataset.class_names == ("bolt", "nut")
    assert dataset.name == "own all"
    assert contents(dataset) == [("a", *BOLT), ("b", *BOLT), ("c", *BOTH)]
    assert not caplog.messages


def test_images_with_issues_are_left_out(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    (voc / "ImageSets/Main/all.txt").write_text("a\nb\nc\nd\ne\nf\n")
    (voc / "JPEGImages/a.png").unlink()
    (voc / "JPEGImages/b.png").write_text("<html>404</html>")
    (voc / "Annotations/e.xml").write_text("")
    write_objects(voc, "f", ("bolt", 1, 1, 5, 5))
    (voc / "JPEGImages/f.png").write_bytes((voc / "JPEGImages/c.png").read_bytes()[:20])
    dataset = load(voc)
    assert contents(dataset) == [("c", *BOTH)]
    lines = [
        f"{voc}/Annotations/d.xml: no such annotation",
        f"{voc}/Annotations/e.xml: not a readable XML file (no element found: line 1, column 0)",
        f"{voc}/Annotations/a.xml: there is no image 'a' below {voc}",
        f"{voc}/JPEGImages/b.png: not a JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC image",
        f"{voc}/JPEGImages/f.png: the PNG data are damaged or cut off",
        "own all: found 1 x missing annotation, 1 x unreadable annotation, 1 x missing image, 2 x unreadable "
        "image; going on with 1 images, 2 objects",
    ]
    assert caplog.messages == lines
    caplog.clear()
    with pytest.raises(ValueError, match=r"own all: found 1 x .* --strict allows no issues"):
        load(voc, strict=True)
    assert caplog.messages == lines[:-1]


def test_objects_with_issues_are_left_out(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_objects(voc, "a", ("bolt", 9, 1, 8, 5), ("bolt", 11, 6, 30, 25))
    write_objects(voc, "b", ("bolt", 11, 6, 30, 25), ("", 1, 2, 3, 4))
    # an object whose name or place is unknown would be learned as background, so its image goes, too
    assert contents(load(voc)) == [("a", *BOLT), ("c", *BOTH)]
    assert caplog.messages == [
        f"{voc}/Annotations/a.xml: object 1: bndbox is empty: 9, 1, 8, 5",
        f"{voc}/Annotations/b.xml: object 2: object without a name",
        "own all: found 1 x box without area, 1 x unreadable object; going on with 2 images, 3 objects",
    ]


def test_boxes_are_clipped_to_their_image(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_objects(voc, "a", ("nut", 0, 0, 61, 41), ("nut", 21, 11, 62, 40), ("bolt", 61, 1, 70, 9))
    write_objects(voc, "b", ("bolt", -9, 11, 20, 30))
    dataset = load(voc)
    assert contents(dataset) == [
        ("a", [[0, 0, 60, 40], [20, 10, 60, 40]], ["nut", "nut"]),
        ("b", [[0, 10, 20, 30]], ["bolt"]),
        ("c", *BOTH),
    ]
    assert caplog.messages[:-1] == [
        f"{voc}/Annotations/a.xml: object 2: nut at 20 10 62 40 reaches out of the image of 60 x 40 pixels",
        f"{voc}/Annotations/a.xml: object 3: bolt at 60 0 70 9 lies out of the image of 60 x 40 pixels",
        f"{voc}/Annotations/b.xml: object 1: bolt at -10 10 20 30 reaches out of the image of 60 x 40 pixels",
    ]
    assert "3 x box outside of the image" in caplog.messages[-1]


def test_boxes_are_compared_with_the_oriented_image(voc: Path) -> None:
    upright = np.zeros((60, 40, 3), np.uint8)  # of a camera that stores rows as columns
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = cv2.imencode(".jpg", upright)[1].tobytes()
    app1 = b"\xff\xe1" + (len(exif) + 8).to_bytes(2, "big") + b"Exif\0\0" + exif
    (voc / "JPEGImages/a.jpg").write_bytes(data[:2] + app1 + data[2:])
    write_objects(voc, "a", ("bolt", 1, 1, 60, 40))
    assert contents(load(voc, strict=True))[0] == ("a", [[0, 0, 60, 40]], ["bolt"])


def test_named_classes_leave_the_others_out(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = load(voc, ["screw", "bolt"])
    assert dataset.class_names == ("screw", "bolt")
    assert contents(dataset) == [("a", *BOLT), ("b", *BOLT), ("c", [[0, 0, 60, 40]], ["bolt"])]
    assert caplog.messages == [
        f"{voc}/Annotations/c.xml: object 2: unknown class 'nut'",
        "own all: no object of class 'screw'",
        "own all: found 1 x unknown class, 1 x class without objects; going on with 3 images, 3 objects",
    ]


def test_a_class_of_the_data_goes_with_its_last_object(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_objects(voc, "a", ("axle", 100, 100, 120, 120), ("nut", 1, 1, 9, 9))
    dataset = load(voc)
    assert dataset.class_names == ("bolt", "nut")
    assert contents(dataset)[0] == ("a", [[0, 0, 9, 9]], ["nut"])
    assert "own all: no object of class 'axle'" in caplog.messages


def test_classes_without_objects_may_be_allowed(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = load_checked(
        DataSource(voc, "all", shorthand="voc"), class_names=["nut", "screw", "bolt"], need_objects=False
    )
    assert dataset.class_names == ("nut", "screw", "bolt")
    assert not caplog.messages


def test_vocs_classes_keep_their_order(voc: Path) -> None:
    write_objects(voc, "a", *((name, 1, 1, 9, 9) for name in reversed(VOC_CLASSES)))
    write_objects(voc, "b")
    write_objects(voc, "c")
    assert load(voc).class_names == VOC_CLASSES


def test_many_issues_of_a_kind_are_counted(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"screw{number}" for number in range(25)]
    write_objects(voc, "a", *((name, 1, 1, 9, 9) for name in [names[0], *names, names[24]]), ("bolt", 5, 5, 4, 4))
    load(voc, ["bolt", "nut"])
    lines = [
        f"{voc}/Annotations/a.xml: object {number}: unknown class {name!r}"
        for number, name in enumerate([names[0], *names][:10], 1)
    ]
    assert [message for message in caplog.messages if "screw" in message] == lines
    assert "unknown class: and 17 more; see spp data check --all" in caplog.messages
    assert len(caplog.messages) == 1 + 10 + 1 + 1


def test_nothing_left_is_an_error(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="own all: no object is left in 3 images"):
        load(voc, ["screw"])
    for path in (voc / "JPEGImages").iterdir():
        path.unlink()
    with pytest.raises(
        ValueError, match=r"no object is left in 0 images; .*Annotations/\w\.xml: there is no image '\w' below "
    ):
        load(voc)
    assert caplog.messages == []
    for path in (voc / "Annotations").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="own all: no object is left in 0 images"):
        load(voc)


def test_issues_of_a_coco_file(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = voc / "JPEGImages" / "boxes.json"
    path.write_text(json.dumps(coco_of(load(voc), extra_category="hardware")))
    dataset = load_checked(DataSource(path, shorthand="coco"))
    assert dataset.class_names == ("bolt", "nut")
    assert contents(dataset) == contents(load(voc))
    assert caplog.messages == [
        "JPEGImages boxes: no object of class 'hardware'",
        "JPEGImages boxes: found 1 x class without objects; going on with 3 images, 4 objects",
    ]
    source = DataSource(path, shorthand="coco", images=voc / "JPEGImages")
    assert load_checked(source, class_names=["nut", "bolt"], strict=True)
    with pytest.raises(ValueError, match="--voc needs --split, the name of a list in ImageSets/Main"):
        load_checked(DataSource(voc, shorthand="voc"))


@pytest.mark.all
def test_real_voc_has_no_issues(voc_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val"):
        plain, checked = (
            load_voc(voc_root, split),
            load_checked(DataSource(voc_root, split, shorthand="voc"), strict=True),
        )
        assert checked.class_names == VOC_CLASSES
        for one, two in zip(plain, checked, strict=True):
            assert (one.image_id, one.path) == (two.image_id, two.path)
            np.testing.assert_array_equal(one.boxes, two.boxes)
            np.testing.assert_array_equal(one.labels, two.labels)
    assert not caplog.messages


def test_class_names_that_look_alike_are_named(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_objects(voc, "b", ("Bolt", 11, 6, 30, 25))
    load(voc)
    assert caplog.messages == ["own all: classes 'Bolt', 'bolt' may be one"]
