"""Result files: boxes in each format by hand, free names, class folders."""

from __future__ import annotations

import csv
import json
import os
import resource
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from detector.boxes import as_boxes
from detector.detections import Detections
from detector.images.files import read_image
from detector.results.files import (
    ResultFolder,
    fitting,
    folder_name,
    label_stems,
    write_class_names,
    write_crops,
    write_voc,
    write_yolo,
)
from detector.results.streams import coco_file, csv_table, json_lines

NAMES = ("nut", "wing nut")
IMAGE = np.random.default_rng(0).integers(0, 256, (200, 100, 3), np.uint8)
FOUND = Detections(
    as_boxes(np.array([[10, 20, 30, 80], [-5, 150.126, 50.5, 230], [90, 10, 90, 50]])),
    np.array([1, 0, 0]),
    np.array([2.0, 1.0, 0.5], np.float32),
    NAMES,
)


def test_yolo_has_centers_and_sides_as_fractions(tmp_path: Path) -> None:
    write_yolo(tmp_path / "a.txt", IMAGE, FOUND)
    assert (tmp_path / "a.txt").read_text().splitlines() == [
        "1 0.200000 0.250000 0.200000 0.300000",
        # cut to the image: 0 to 50.5, 150.126 to 200
        "0 0.252500 0.875315 0.505000 0.249370",
        "0 0.900000 0.150000 0.000000 0.200000",
    ]
    write_yolo(tmp_path / "b.txt", IMAGE, FOUND[:0])
    assert (tmp_path / "b.txt").read_text() == ""
    write_class_names(tmp_path / "names", ("nut", "wing\n nut"))
    assert (tmp_path / "names").read_text() == "nut\nwing nut\n"


def test_voc_counts_from_one_and_includes_the_last_pixel(tmp_path: Path) -> None:
    write_voc(tmp_path / "a.xml", Path("folder/a<b>.jpg"), IMAGE, FOUND)
    root = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert root.findtext("filename") == "a<b>.jpg"
    assert [root.findtext(f"size/{side}") for side in ("width", "height", "depth")] == ["100", "200", "3"]
    corners = [
        [each.findtext(f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
        for each in root.findall("object")
    ]
    assert corners == [["11", "21", "30", "80"], ["1", "151.13", "50.5", "200"], ["91", "11", "90", "50"]]
    assert [each.findtext("name") for each in root.findall("object")] == ["wing nut", "nut", "nut"]
    assert {each.findtext("difficult") for each in root.findall("object")} == {"0"}


def test_crops_hold_all_pixels_of_boxes_best_first(tmp_path: Path) -> None:
    both = Detections(
        as_boxes(np.array([[10.5, 20.5, 30.2, 80.2], [0, 0, 200, 9], [90, 10, 90, 50]])),
        np.zeros(3, int),
        np.array([1, 2, 3], np.float32),
        ("a/b",),
    )
    write_crops(ResultFolder(tmp_path, []), "photo", ".png", IMAGE, both)
    assert sorted(path.name for path in (tmp_path / "crops/a_b").iterdir()) == ["photo.png", "photo_2.png"]
    np.testing.assert_array_equal(read_image(tmp_path / "crops/a_b/photo.png"), IMAGE[:9])
    np.testing.assert_array_equal(read_image(tmp_path / "crops/a_b/photo_2.png"), IMAGE[20:81, 10:31])


def test_free_names(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("an input")
    (tmp_path / "photo_2.jpg").write_text("of somebody")
    folder = ResultFolder(tmp_path, [tmp_path / "photo.jpg"])
    (first,) = folder.numbered("photo", ["*.jpg"])
    assert first.name == "photo_3.jpg"
    first.write_text("ours")
    # not twice in one run; in the next one, what is ours is replaced
    assert folder.numbered("photo", ["*.jpg"])[0].name == "photo_4.jpg"
    again = ResultFolder(tmp_path, [tmp_path / "photo.jpg"])
    assert again.numbered("photo", ["*.jpg"])[0].name == "photo_3.jpg"
    anything = ResultFolder(tmp_path, [tmp_path / "photo.jpg"], overwrite=True)
    assert anything.numbered("photo", ["*.jpg"])[0].name == "photo_2.jpg"
    # an input never, whatever it is called on the way
    (tmp_path / "link.jpg").symlink_to(tmp_path / "photo.jpg")
    assert not anything.may_write(tmp_path / "link.jpg")
    assert (tmp_path / "photo.jpg").read_text() == "an input"


def test_files_of_one_image_have_one_number(tmp_path: Path) -> None:
    (tmp_path / "yolo").mkdir()
    (tmp_path / "yolo/photo.txt").write_text("of somebody")
    paths = ResultFolder(tmp_path, []).numbered("photo", ["voc/*.xml", "yolo/*.txt"])
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["voc/photo_2.xml", "yolo/photo_2.txt"]
    assert (tmp_path / "voc").is_dir()


def test_fixed_names_are_free_or_an_error(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text("of somebody")
    with pytest.raises(ValueError, match="was not written by this program; --overwrite replaces it"):
        ResultFolder(tmp_path, []).fixed("coco.json")
    assert ResultFolder(tmp_path, [], overwrite=True).fixed("coco.json") == tmp_path / "coco.json"
    assert ResultFolder(tmp_path, []).fixed("coco.json") == tmp_path / "coco.json"


def test_a_list_that_does_not_fit_on_the_disk_is_named_and_holds_whole_names(tmp_path: Path) -> None:
    ResultFolder(tmp_path, []).fixed("a.json")
    child = os.fork()
    if not child:  # as on a full disk: room for the start of a name
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len("a.json\0b.j"), resource.RLIM_INFINITY))
            ResultFolder(tmp_path, []).fixed("b.json")
        except OSError as error:
            code = 0 if error.filename == str(tmp_path / ".spp-detect") else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    ResultFolder(tmp_path, []).fixed("c.json")
    assert (tmp_path / ".spp-detect").read_bytes() == b"a.json\0c.json\0"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("nut", "nut"),
        ("a/b\\c", "a_b_c"),
        ("..", "_"),
        (" a. ", "a"),
        ("a\nb\0", "a_b_"),
        ("", "_"),
        ('<:"|?*>', "_______"),
    ],
)
def test_class_folders_stay_inside(name: str, folder: str) -> None:
    assert folder_name(name) == folder


def test_long_names_leave_room_for_a_number() -> None:
    assert len(fitting("x" * 300)) == 255 - 32
    assert fitting("x" * 223) == "x" * 223
    assert len(fitting("照" * 100).encode("utf-8", "surrogateescape")) == 223


RECORDS = [
    {
        "image": "a.jpg",
        "width": 9,
        "height": 7,
        "detections": [{"label": "b", "score": 0.5, "box": [1.0, 2.0, 4.0, 8.0]}],
    },
    {"image": "b.jpg", "width": 5, "height": 6, "detections": []},
    {
        "image": "c.jpg",
        "width": 3,
        "height": 4,
        "detections": [
            {"label": "a", "score": 2.0, "probability": 0.75, "box": [0.0, 0.0, 3.0, 4.0]},
            {"label": "b", "score": 1.0, "probability": 0.5, "box": [0.5, 0.0, 3.0, 1.0]},
        ],
    },
]


def test_labels_have_the_names_of_their_images() -> None:
    a, b = Path("x/a.jpg"), Path("y/b.tar.png")
    assert label_stems([a, b]) == {a: "a", b: "b.tar"}
    # of one name, in the folders below the common one
    other = Path("y/a.png")
    assert label_stems([a, b, other]) == {a: "x/a", b: "y/b.tar", other: "y/a"}
    for same in (Path("x/a.png"), Path("./x/a.jpeg")):
        with pytest.raises(ValueError, match=r"would share one file of labels, .*a: rename one of the images"):
            label_stems([a, same])
    assert label_stems([]) == {}


def test_one_file_for_all_images(tmp_path: Path) -> None:
    for name, stream in (("jsonl", json_lines), ("csv", csv_table)):
        with stream(tmp_path / name) as add:
            for record in RECORDS:
                add(record)
    assert [json.loads(line) for line in (tmp_path / "jsonl").read_text().splitlines()] == RECORDS
    with (tmp_path / "csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["image", "width", "height", "label", "probability", "score", "x1", "y1", "x2", "y2"]
    assert rows == [
        ["a.jpg", "9", "7", "b", "", "0.5", "1.0", "2.0", "4.0", "8.0"],
        ["c.jpg", "3", "4", "a", "0.75", "2.0", "0.0", "0.0", "3.0", "4.0"],
        ["c.jpg", "3", "4", "b", "0.5", "1.0", "0.5", "0.0", "3.0", "1.0"],
    ]


def test_coco_ids_start_at_one_and_late_classes_are_named(tmp_path: Path) -> None:
    names = ["b"]
    with coco_file(tmp_path / "coco.json", names) as add:
        add(RECORDS[0])
        add(RECORDS[1])
        names.append("a")
        add(RECORDS[2])
    content = json.loads((tmp_path / "coco.json").read_text())
    assert [(each["id"], each["file_name"], each["width"], each["height"]) for each in content["images"]] == [
        (1, "a.jpg", 9, 7),
        (2, "b.jpg", 5, 6),
        (3, "c.jpg", 3, 4),
    ]
    first, second, third = content["annotations"]
    assert first == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [1.0, 2.0, 3.0, 6.0],
        "area": 18.0,
        "iscrowd": 0,
        "score": 0.5,
    }
    assert (second["id"], second["image_id"], second["category_id"], second["probability"]) == (2, 3, 2, 0.75)
    assert (third["id"], third["category_id"], third["bbox"], third["area"]) == (3, 1, [0.5, 0.0, 2.5, 1.0], 2.5)
    assert content["categories"] == [{"id": 1, "name": "b"}, {"id": 2, "name": "a"}]
    with coco_file(tmp_path / "empty.json", ["b"]):
        pass
    assert json.loads((tmp_path / "empty.json").read_text())["images"] == []
