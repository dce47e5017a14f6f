"""Read exports of every labeling tool, with boxes computed by hand from their documentation."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from detector.datasets.dataset import Dataset
from detector.datasets.issues import raise_issue
from detector.datasets.loading import DataSource, load_dataset, load_splits, load_voc
from detector.datasets.readers import yolo
from tests.datasets.exports import IMAGES, draw_image, write_export
from tests.synthetic import SYNTHETIC_CLASSES

Content = dict[str, list[tuple[str, list[float]]]]


def content(dataset: Dataset) -> Content:
    """Class and box of each object, by the image's id."""
    return {
        each.image_id: [
            (dataset.class_names[label], box) for label, box in zip(each.labels, each.boxes.tolist(), strict=True)
        ]
        for each in dataset
    }


RF = ".rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9"
RF1 = ".rf.1b1b2c3d4e5f60718293a4b5c6d7e8f9"

EXPECTED: dict[str, dict[str, Content]] = {
    "labelimg": {
        "": {
            "IMG 1": [("nut", [1, 5, 20, 25]), ("bolt", [30, 10, 60, 40])],
            "empty": [],
            # drawn on 60 x 40 stored pixels, which EXIF turns clockwise: x is 40 - y
            "phone": [("bolt", [25, 10, 35, 30])],
        }
    },
    "roboflow-voc": {
        "train": {f"a_jpg{RF}": [("nut", [0, 10, 60, 30])], f"b_jpg{RF1}": [("bolt", [0, 10, 60, 30])]},
        "val": {"a_jpg.rf.2c1b2c3d4e5f60718293a4b5c6d7e8f9": [("nut", [0, 10, 60, 30])]},
    },
    "cvat-voc": {
        "": {
            "JPEGImages/frame_000000": [("nut", [0, 4.25, 30.5, 40])],
            "JPEGImages/street/frame_000000": [],
        }
    },
    "cvat-coco": {
        "": {
            "images/frame_000000": [("bolt", [10.5, 4.25, 30.5, 19.25])],
            "images/street/frame_000000": [("nut", [0, 0, 10, 10])],
        }
    },
    "label-studio-coco": {
        "": {
            "1a2b3c4d-my_photo": [("nut", [6, 4, 18, 12])],
            # boxes are on the image as it is shown, 40 x 60, although its size is noted as 60 x 40
            "5e6f7a8b-phone": [("bolt", [4, 30, 24, 54])],
        }
    },
    "label-studio-voc": {"": {"78cd539a-39": [("nut", [0, 10, 30, 40])]}},
    "label-studio-yolo": {
        "": {"1a2b3c4d-a": [("nut", [15, 15, 45, 25]), ("bolt", [6, 4, 30, 20])], "5e6f7a8b-b": []},
    },
    "roboflow-coco": {
        split: {
            f"{split.replace('val', 'valid')}1_jpg{RF}": [("nut", [0, 10, 30.5, 30])],
            f"{folder}/null_jpg{RF1}": [],
        }
        for split, folder in (("train", "train"), ("val", "valid"), ("test", "test"))
    },
    "roboflow-yolo": {
        "train": {f"a_jpg{RF}": [("nut", [0, 10, 60, 30])]},
        "val": {f"b_jpg{RF1}": [("bolt", [0, 0, 30, 20]), ("nut", [37.5, 25, 52.5, 35])]},
    },
    "ultralytics": {
        "train": {"images/train/a": [("nut", [15, 10, 45, 30]), ("bolt", [6, 4, 18, 24])], "b": []},
        "val": {"images/val/a": [("bolt", [24, 16, 36, 24])]},
    },
    "open-images": {
        "train": {"000026e7ee790996": [("Car", [15, 4, 45, 36]), ("Cat", [0, 20, 30, 40])]},
        "val": {"0001eeaf4aed83f9": [("Cat", [0, 0, 60, 40])]},
    },
    "labelimg-yolo": {"": {"a": [("nut", [15, 10, 45, 30])]}},
    "cvat-yolo": {"": {"a": [("nut", [15, 5, 45, 15])]}},
    "cvat-images": {
        "": {
            "images/street/a": [
                ("nut", [1.5, 2.25, 30, 20]),
                ("nut", [25, 10, 35, 30]),  # 20 x 10 pixels, turned by 90 degrees around (30, 20)
                ("bolt, long", [10, 5, 30.5, 35.25]),
                ("nut", [20, 15, 40, 25]),
                ("bolt, long", [7, 8, 16, 18]),
            ],
            "images/a": [],
            "b": [("bolt, long", [10, 10, 20, 30])],  # around the visible points of a skeleton
        }
    },
    "cvat-project": {"train": {"a": [("nut", [1, 2, 30, 20])]}, "val": {"b": [("nut", [3, 4, 5, 16])]}},
    "cvat-video": {
        "": {
            "frame_000010": [("car", [0, 0, 20, 10])],
            "frame_000012": [("car", [4, 2, 24, 12]), ("person", [30, 10, 40, 30])],  # the car is between key frames
            "frame_000014": [("car", [8, 4, 28, 14])],
            "frame_000016": [],
        }
    },
    "labelme": {
        "": {
            "a": [("nut", [1.25, 2, 30.5, 20]), ("bolt", [15, 15, 25, 25]), ("bolt", [7, 8, 16, 18])],
            "b": [("nut", [1, 2, 30, 22])],
            "c": [],
        }
    },
    "label-studio-json": {
        "": {
            "my_photo": [
                ("nut", [6, 4, 36, 14]),
                ("bolt", [18, 10, 30, 22]),  # 12 x 12 pixels at (30, 10), turned by 90 degrees around this corner
                ("nut", [6, 20, 12, 40]),
                ("bolt", [24, 12, 36, 28]),
            ],
            "b c": [("nut", [0, 0, 30, 20])],
            "empty": [],
        }
    },
    "label-studio-json-min": {"": {"1a2b3c4d-a": [("bolt", [0, 0, 30, 40])], "5e6f7a8b-b": []}},
    "via-project": {
        "": {
            "a": [
                ("nut", [1, 2, 30, 20]),
                ("bolt", [15, 15, 25, 25]),
                ("bolt", [25, 10, 35, 30]),  # radii 10 and 5, turned by a quarter
                ("nut", [5, 10, 25, 33]),
            ],
            "b": [],
        }
    },
    "via-balloon": {"train": {"a": [("object", [5, 10, 25, 33])]}, "val": {"b": [("object", [5, 10, 25, 33])]}},
    "via-csv": {"": {"a": [("nut, small", [1, 2, 30, 20]), ("bolt", [15, 15, 25, 25])], "b": []}},
    "roboflow-createml": {
        "train": {f"a_jpg{RF}": [("nut", [15, 5, 25, 26])], "null": []},
        "val": {f"b_jpg{RF}": [("nut", [15, 5, 25, 26])]},
    },
    "createml": {"": {"a": [("nut", [15, 5, 25, 26])]}},
    "vott-json": {
        "": {
            "a b": [("nut", [1, 2.25, 30, 20.75]), ("old", [1, 2.25, 30, 20.75]), ("nut", [5, 10, 25, 33])],
            "b": [],
        }
    },
    "vott-assets": {"": {"a b": [("nut", [5, 10, 25, 33])], "b": []}},
    "vott-csv": {
        "": {"a": [("nut", [1.5, 2.25, 30, 20]), ("bolt, long", [10, 5, 50, 35])], "b": [("nut", [0, 0, 60, 40])]}
    },
    "tensorflow-csv": {
        "train": {"a": [("nut", [1, 2, 30, 20]), ("bolt", [10, 5, 50, 35])]},
        "test": {"b": [("nut", [0, 0, 60, 40])]},
    },
    "retinanet-csv": {"": {"a": [("nut", [1, 2, 30, 20]), ("bolt", [10, 5, 50, 35])], "b": []}},
    "make-sense-csv": {"": {"a": [("nut", [1, 2, 30, 20])]}},
    "roboflow-darknet": {"train": {f"a_jpg{RF}": [("nut", [15, 10, 45, 30])]}, "val": {f"b_jpg{RF}": []}},
    "image-folder": {
        "train": {"train/a": [("nut", [1, 2, 30, 20]), ("bolt", [3.5, 4.25, 5.5, 6.25])], "b": []},
        "test": {"test/a": [("bolt", [0, 0, 60, 40])]},
    },
    "image-folder-csv": {"": {"a": [("nut, small", [1, 2, 30, 20])], "b": []}},
    "datumaro": {
        "train": {
            "a": [
                ("nut", [1.5, 2.25, 30, 20]),
                ("bolt", [5, 10, 25, 33]),
                ("bolt", [25, 10, 35, 30]),
                ("nut", [20, 15, 40, 25]),
            ]
        },
        "val": {"b": []},
    },
}


@pytest.mark.parametrize("name", IMAGES)
def test_every_tool_s_export_is_read_from_its_folder_and_its_zip_file(name: str, tmp_path: Path) -> None:
    root = write_export(name, tmp_path)
    read = {split: content(dataset) for split, dataset in load_splits(root).items()}
    assert rounded(read) == EXPECTED[name]
    archive = shutil.make_archive(str(tmp_path / "as downloaded"), "zip", tmp_path, name)
    zipped = {split: content(dataset) for split, dataset in load_splits(archive).items()}
    assert rounded(zipped) == EXPECTED[name]


def rounded(read: dict[str, Content]) -> dict[str, Content]:
    """Without the last digits of fractions such as 0.1."""
    return {
        split: {
            key: [(name, [round(corner, 4) for corner in box]) for name, box in objects]
            for key, objects in each.items()
        }
        for split, each in read.items()
    }


@pytest.mark.parametrize("split", ["val", "valid", "validation", "Validation"])
def test_splits_have_their_usual_names(split: str, tmp_path: Path) -> None:
    root = write_export("roboflow-coco", tmp_path)
    assert load_dataset(DataSource(root, split)).name == "roboflow-coco val"
    assert load_dataset(root).name == "roboflow-coco train"
    with pytest.raises(ValueError, match="there is no split 'extra', there are: train, val, test"):
        load_dataset(DataSource(root, "extra"))


def test_unlabeled_images_are_left_out_by_default(tmp_path: Path) -> None:
    root = write_export("labelimg", tmp_path)
    logged: list[str] = []
    dataset = load_dataset(root, log=logged.append)
    assert "unlabeled" not in content(dataset)
    assert content(dataset)["empty"] == []
    assert logged == [
        f"{root}: LabelImg XML; images: all 3",
        "labelimg: 1 images without annotation are left out; see --unlabeled background",
    ]
    dataset = load_dataset(DataSource(root, unlabeled="background"), log=logged.append)
    assert content(dataset)["unlabeled"] == []
    assert logged[-1] == "labelimg: 1 images without annotation are used as images without objects"


def test_the_format_option_sets_the_first_pixel(tmp_path: Path) -> None:
    root = write_export("labelimg", tmp_path)
    assert content(load_dataset(DataSource(root, format_name="labelimg")))["IMG 1"][0] == ("nut", [1, 5, 20, 25])
    assert content(load_dataset(DataSource(root, format_name="voc-devkit")))["IMG 1"][0] == ("nut", [0, 4, 20, 25])


@pytest.mark.parametrize(
    ("orientation", "box"),
    # of 10 5 30 15 on 60 x 40 stored pixels, by the table of the EXIF standard
    [(5, [5, 10, 15, 30]), (6, [25, 10, 35, 30]), (7, [25, 30, 35, 50]), (8, [5, 30, 15, 50])],
)
def test_boxes_on_stored_pixels_are_oriented(orientation: int, box: list[float], tmp_path: Path) -> None:
    root = write_export("labelimg", tmp_path)
    draw_image(root / "phone.jpg", orientation)
    assert content(load_dataset(root))["phone"] == [("bolt", box)]
    xml = root / "phone.xml"
    xml.write_text(xml.read_text().replace("<width>60</width>", "<width>40</width>").replace(">40</h", ">60</h"))
    assert content(load_dataset(root))["phone"] == [("bolt", [10, 5, 30, 15])]  # drawn on the image as it is shown


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("instances_train2017", "instances_val2017"), {"train", "val"}),
        (("train", "valid"), {"train", "val"}),
        (("bolts_train.v2", "bolts_test.v2"), {"train", "test"}),
        (("instances_default", "instances_extra"), {"default", "extra"}),
        (("instances_trainer",), {""}),
    ],
)
def test_file_names_name_the_splits(names: tuple[str, ...], splits: set[str], tmp_path: Path) -> None:
    root = write_export("cvat-coco", tmp_path)
    original = root / "annotations/instances_default.json"
    text = original.read_text()
    original.unlink()
    for name in names:
        (root / "annotations" / f"{name}.json").write_text(text)
    assert set(load_splits(root)) == splits


@pytest.mark.parametrize(
    ("description", "split"),
    [
        ("names: [no, nut]\ntrain: images/train\nval: images/val", "train"),
        ("names: {1: nut, 0: no}\nnc: 2\ntrain: ./images/train\nval: null", "train"),
        ("names: [no, nut]\npath: ../nuts\ntrain: [images/train]", "train"),
        ("names: [no, nut]\ntrain: list.txt", "train"),
        ("names: [no, nut]\ntrain: images/train\nval: images/train", ""),
    ],
)
def test_descriptions_as_people_write_them(description: str, split: str, tmp_path: Path) -> None:
    root = write_export("ultralytics", tmp_path)
    (root / "data.yaml").write_text(description)
    (root / "list.txt").write_text("./images/train/a.jpg\n/data/images/train/b.jpg\n")
    datasets = load_splits(root)
    assert next(iter(datasets)) == split
    assert next(iter(content(datasets[split]).values()))[1][0] == "no"
    assert len(datasets[split]) == 2


def test_one_file_of_an_export_can_be_read(tmp_path: Path) -> None:
    for name, file in (
        ("cvat-coco", "annotations/instances_default.json"),
        ("label-studio-coco", "result.json"),
        ("labelimg-yolo", "classes.txt"),
    ):
        root = write_export(name, tmp_path)
        assert rounded({"": content(load_dataset(root / file))}) == EXPECTED[name]
    root = write_export("ultralytics", tmp_path)
    assert set(load_splits(root / "data.yaml")) == {"train", "val"}
    root = write_export("open-images", tmp_path)
    assert set(load_splits(root / "train-annotations-bbox.csv")) == {"train"}


def test_groups_and_crowds_are_difficult(tmp_path: Path) -> None:
    assert load_dataset(write_export("open-images", tmp_path))[0].difficult.tolist() == [True, False]
    assert load_dataset(write_export("labelimg", tmp_path))[0].difficult.tolist() == [False, True]


def test_several_datasets_are_an_error(tmp_path: Path) -> None:
    root = write_export("labelimg", tmp_path)
    shutil.copytree(write_export("cvat-coco", tmp_path), root / "second")
    with pytest.raises(
        ValueError, match=r"labelimg: may be read as voc \(IMG 1\.xml\), coco \(second/.*: choose one with --format"
    ):
        load_dataset(root)
    assert len(load_dataset(DataSource(root, format_name="voc"))) == 3
    assert len(load_dataset(DataSource(root, format_name="coco"))) == 2


def test_a_devkit_reads_as_its_list(root: Path) -> None:
    for split in ("train", "test"):
        one, two = load_voc(root, split, SYNTHETIC_CLASSES), load_dataset(DataSource(root, split))
        assert content(one) == content(two)
        for each, other in zip(one, two, strict=True):
            assert (each.image_id, each.path) == (other.image_id, other.path)
            assert each.difficult.tolist() == other.difficult.tolist()


@pytest.mark.all
def test_a_real_devkit_reads_as_its_list(voc_root: Path) -> None:
    assert content(load_voc(voc_root, "val")) == content(load_dataset(DataSource(voc_root, "val")))


def test_a_description_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_export("ultralytics", tmp_path)
    monkeypatch.setattr(yolo, "_MAX_YAML", (root / "data.yaml").stat().st_size - 1)
    assert not yolo.is_yolo_yaml(root / "data.yaml")
    with pytest.raises(ValueError, match=r"data\.yaml: is larger than \d+ bytes"):
        yolo.read_yolo(root, [], root / "data.yaml", raise_issue)
    monkeypatch.setattr(yolo, "_MAX_YAML", (root / "data.yaml").stat().st_size)
    assert yolo.is_yolo_yaml(root / "data.yaml")
    assert set(load_splits(root)) == {"train", "val"}
