"""Read COCO's JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.datasets.issues import Issue
from detector.datasets.loading import load_coco, load_voc
from detector.datasets.readers.coco import is_coco
from detector.datasets.readers.voc import VOC_CLASSES
from tests.fakes import coco_of


def content() -> dict[str, Any]:
    """Two images, of which the second has no objects; categories in another order than their ids."""
    return {
        "images": [
            {"id": 7, "file_name": "b.jpg", "width": 100, "height": 80},
            {"id": 3, "file_name": "below/a.png", "width": 100, "height": 80},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [10, 20, 30, 40], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0.5, 0.25, 2, 1.5], "iscrowd": 1},
            {"id": 5, "image_id": 7, "category_id": 9, "bbox": [0, 0, 100, 80]},
        ],
        "categories": [{"id": 9, "name": "bolt"}, {"id": 2, "name": "wing nut"}],
    }


def write(folder: Path, what: Any) -> Path:
    path = folder / "boxes.json"
    path.write_text(what if isinstance(what, str) else json.dumps(what))
    return path


def test_boxes_labels_and_crowds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dataset = load_coco(str(write(tmp_path, content())))
    assert dataset.class_names == ("wing nut", "bolt")
    assert dataset.name == f"{tmp_path.name} boxes"
    assert [each.image_id for each in dataset] == ["b", "below/a"]
    assert [each.path for each in dataset] == [tmp_path / "b.jpg", tmp_path / "below" / "a.png"]
    assert dataset[0].boxes.dtype == np.float32
    assert dataset[0].boxes.tolist() == [[10, 20, 40, 60], [0.5, 0.25, 2.5, 1.75], [0, 0, 100, 80]]
    assert dataset[0].labels.tolist() == [1, 0, 1]
    assert dataset[0].difficult.tolist() == [False, True, False]
    assert dataset[1].boxes.shape == (0, 4)
    assert capfd.readouterr() == ("", "")


def test_images_and_classes_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, content())
    folder = tmp_path / "elsewhere"
    with pytest.raises(FileNotFoundError, match="elsewhere: no such folder"):
        load_coco(path, folder)
    folder.mkdir()
    dataset = load_coco(path, folder, ["bolt", "wing nut", "screw"])
    assert dataset.class_names == ("bolt", "wing nut", "screw")
    assert dataset[0].labels.tolist() == [0, 1, 0]
    assert dataset[0].path == folder / "b.jpg"
    with pytest.raises(ValueError, match="bolt, bolt"):
        load_coco(path, None, ["bolt", "bolt"])


@pytest.mark.parametrize(
    ("file_names", "image_ids"),
    [
        (["a.jpg", "a.b.jpg"], ["a", "a.b"]),
        (["a.jpg", "b/a.jpg"], ["a", "b/a"]),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"]),
        (["./a.jpg", "b\\a.jpg"], ["a", "b/a"]),
    ],
)
def test_image_ids(tmp_path: Path, file_names: list[str], image_ids: list[str]) -> None:
    what = content()
    for image, name in zip(what["images"], file_names, strict=True):
        image["file_name"] = name
    dataset = load_coco(write(tmp_path, what))
    assert [each.image_id for each in dataset] == image_ids
    assert dataset[1].path == tmp_path / file_names[1].replace("\\", "/")


def changed(where: str, number: int, **values: Any) -> dict[str, Any]:
    """The content with other values in an entry; a value None takes the key away."""
    what = content()
    entry = what[where][number]
    entry.update(values)
    what[where][number] = {key: value for key, value in entry.items() if value is not None}
    return what


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("", "not a readable JSON file"),
        ("{", "not a readable JSON file"),
        ("[]", "not a COCO file"),
        ("{}", "there is no list 'images'"),
        ({**content(), "annotations": None}, "not a COCO file"),
        ({**content(), "categories": {}}, "there is no list 'categories'"),
        ({**content(), "images": ["a.jpg"]}, "not a COCO file"),
        ({**content(), "images": []}, "lists no images"),
        (changed("images", 0, id=None), "an entry lacks the key 'id'"),
        (changed("images", 0, id=3), "two of the images have the same id"),
        (changed("images", 0, file_name=None), "image 7 must have a file_name, but has None"),
        (changed("images", 0, file_name=""), "image 7 must have a file_name, but has ''"),
        (changed("images", 0, file_name="below/a.png"), "lists image 'below/a.png' twice"),
        (changed("annotations", 0, image_id=None), "an entry lacks the key 'image_id'"),
        (changed("annotations", 0, category_id=None), "an entry lacks the key 'category_id'"),
        (changed("annotations", 0, category_id=[9]), "not a COCO file"),
        (changed("categories", 0, name=None), "category 9 must have a name, but has None"),
        (changed("categories", 0, name="wing nut"), "names of categories must differ, but are wing nut, wing nut"),
        (changed("categories", 0, id=2), "two of the categories have the same id"),
        (changed("categories", 0, id="9"), "ids of categories must all be numbers"),
    ],
)
def test_files_that_are_not_cocos(tmp_path: Path, what: Any, reason: str) -> None:
    path = write(tmp_path, what)
    found: list[Issue] = []
    with pytest.raises(ValueError, match="json: ") as error:
        load_coco(path, report=found.append)
    assert str(error.value).startswith(f"{path}: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert not found


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (changed("annotations", 0, bbox=None), "bbox must be the numbers x, y, width, height, but is None"),
        (changed("annotations", 0, bbox=[1, 2, 3]), "bbox must be the numbers x, y, width, height, but is [1, 2, 3]"),
        (changed("annotations", 0, bbox=[1, 2, 3, "x"]), "bbox must be the numbers"),
        (changed("annotations", 0, bbox=[1, 2, 3, float("nan")]), "bbox must be the numbers"),
        (changed("annotations", 0, bbox=[1, 2, 10**400, 4]), "bbox must be the numbers"),
        (changed("annotations", 0, bbox=[1, 2, 0, 4]), "bbox is empty: 1, 2, 0, 4"),
        (changed("annotations", 0, bbox=[500, 2, 1e-6, 4]), "bbox is empty: 500, 2, 1e-06, 4"),
        (changed("annotations", 0, image_id=4), "there is no image 4"),
        (changed("annotations", 0, category_id=4), "there is no category 4"),
    ],
)
def test_objects_with_issues_are_errors_or_left_out(tmp_path: Path, what: Any, reason: str) -> None:
    path = write(tmp_path, what)
    with pytest.raises(ValueError, match="json: annotation 1: ") as error:
        load_coco(path)
    assert str(error.value).startswith(f"{path}: annotation 1: {reason}")
    found: list[Issue] = []
    dataset = load_coco(path, report=found.append)
    assert [issue.line for issue in found] == [str(error.value)]
    if "there is no image" in reason or "empty" in reason:
        assert dataset[0].labels.tolist() == [0, 1]
    else:  # an image whose objects are not all known is not trained on
        assert dataset[0].path.name != content()["images"][0]["file_name"]


def test_objects_of_other_classes(tmp_path: Path) -> None:
    path = write(tmp_path, content())
    with pytest.raises(ValueError, match="annotation 2: unknown class 'wing nut'"):
        load_coco(path, class_names=["bolt"])
    assert load_coco(path, class_names=["bolt"], report=lambda issue: None)[0].labels.tolist() == [0, 0]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"boxes\.json: no such file"):
        load_coco(tmp_path / "boxes.json")


def test_voc_written_as_coco_is_the_same_data(voc_root: Path, tmp_path: Path) -> None:
    val = load_voc(voc_root, "val")
    path = write(tmp_path, coco_of(val))
    again = load_coco(path, voc_root / "JPEGImages")
    assert again.class_names == val.class_names == VOC_CLASSES
    assert [each.image_id for each in again] == [each.image_id for each in val]
    for one, two in zip(again, val, strict=True):
        assert one.path == two.path
        np.testing.assert_array_equal(one.boxes, two.boxes)
        np.testing.assert_array_equal(one.labels, two.labels)
        np.testing.assert_array_equal(one.difficult, two.difficult)


@pytest.mark.parametrize(
    ("entry", "box"),
    [
        ({"bbox": None, "segmentation": [[30, 20, 10, 5, 12, 30]]}, [10, 5, 30, 30]),
        ({"bbox": [], "segmentation": [[30, 20, 10, 5, 12, 30], [40, 2, 41, 3, 42, 2]]}, [10, 2, 42, 30]),
        ({"bbox": [0, 0, 0, 0], "segmentation": [[30, 20, 10, 5, 12, 30]]}, [10, 5, 30, 30]),
        ({"bbox": [40, 60, -30, -40]}, [10, 20, 40, 60]),
        ({"bbox": ["10", "20", "30", "40"]}, [10, 20, 40, 60]),
        ({"image_id": "7", "category_id": "9"}, [10, 20, 40, 60]),
        ({"id": None, "iscrowd": "0"}, [10, 20, 40, 60]),
    ],
)
def test_objects_as_other_programs_write_them(entry: dict[str, Any], box: list[float], tmp_path: Path) -> None:
    what = content()
    what["annotations"][0] |= entry
    if entry.get("id", 1) is None:
        del what["annotations"][0]["id"]
    dataset = load_coco(write(tmp_path, what))
    assert dataset[0].boxes[0].tolist() == box
    assert not dataset[0].difficult[0]


def test_ids_may_be_texts_in_one_list_alone(tmp_path: Path) -> None:
    what = content()
    for image in what["images"]:
        image["id"] = str(image["id"])
    for category in what["categories"]:
        category["id"] = str(category["id"])
    dataset = load_coco(write(tmp_path, what))
    assert [len(each.labels) for each in dataset] == [3, 0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_unicode_of_windows_programs(encoding: str, tmp_path: Path) -> None:
    text = json.dumps(content(), ensure_ascii=False).replace("bolt", "bölt")
    path = tmp_path / "boxes.json"
    path.write_bytes(text.encode(encoding))
    assert is_coco(path)
    assert load_coco(path).class_names == ("wing nut", "bölt")


@pytest.mark.parametrize("outline", [[[1, 2, 3]], [["x", 2]], {"counts": "abc", "size": [0, 0]}, 5, [[1e400, 1]]])
def test_unreadable_outlines_are_issues(outline: Any, tmp_path: Path) -> None:
    path = write(tmp_path, changed("annotations", 0, bbox=None, segmentation=outline))
    with pytest.raises(ValueError, match=r"annotation 1: bbox must be the numbers x, y, width, height, but is None"):
        load_coco(path)


@pytest.mark.parametrize(("used", "names"), [(0, ("project", "nut")), (1, ("nut",))])
def test_category_0_of_roboflow_counts_where_it_has_objects(used: int, names: tuple[str, ...], tmp_path: Path) -> None:
    what = content()
    what["categories"] = [
        {"id": 0, "name": "project", "supercategory": "none"},
        {"id": 1, "name": "nut", "supercategory": "project"},
    ]
    for number, each in enumerate(what["annotations"]):
        each["category_id"] = used if number == 0 else 1
    dataset = load_coco(write(tmp_path, what))
    assert dataset.class_names == names
    assert [names[label] for label in dataset[0].labels.tolist()] == ["project" if used == 0 else "nut", "nut", "nut"]


def test_category_0_of_other_programs_is_a_class(tmp_path: Path) -> None:
    what = content()
    what["categories"] = [{"id": 0, "name": "bolt"}, {"id": 2, "name": "wing nut"}, {"id": 9, "name": "nut"}]
    assert load_coco(write(tmp_path, what)).class_names == ("bolt", "wing nut", "nut")
