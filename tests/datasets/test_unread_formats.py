"""Datasets that are not read are named by their tool, in a folder and in a zip file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from detector.datasets.loading import load_splits
from tests.datasets.exports import draw_image

KITTI = "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n"
SHAPES = [{"classTitle": "nut", "points": {"exterior": [[1, 2], [3, 4]], "interior": []}}]

UNREAD: list[tuple[str, object, str]] = [
    ("ds0/ann/a.jpg.json", {"tags": [], "objects": SHAPES}, "a Supervisely project"),
    ("meta.json", {"classes": [{"title": "nut", "shape": "rectangle"}], "tags": []}, "a Supervisely project"),
    ("export.ndjson", {"data_row": {"id": "1"}, "projects": {}}, "a Labelbox export"),
    ("export.json", [{"ID": "1", "Labeled Data": "http://a.jpg", "Label": {}}], "a Labelbox export"),
    ("tasks.json", [{"task_id": "1", "response": {"annotations": []}}], "an export of Scale"),
    ("a.json", {"version": "2.0", "item": {"slots": []}, "annotations": []}, "a V7 Darwin export"),
    ("a.json", {"image": {"workview_url": ""}, "annotations": []}, "a V7 Darwin export"),
    ("a.jpg___objects.json", {"metadata": {"name": "a.jpg"}, "instances": []}, "a SuperAnnotate project"),
    ("a.json", {"filename": "/a.jpg", "annotations": [{"datasetId": "1", "type": "box"}]}, "a Dataloop export"),
    ("export.json", [{"externalId": "a", "labels": [{"jsonResponse": {}}]}], "a Kili export"),
    ("spans.jsonl", {"image": "a.jpg", "spans": [], "_task_hash": 1}, "a Prodigy export"),
    ("via.json", {"project": {}, "metadata": {}, "view": {}, "vid_list": []}, "a project of VIA 3"),
    ("metadata.json", {"sample_fields": []}, "a FiftyOne dataset"),
    ("a.json", [{"name": "a.jpg", "labels": [{"box2d": {"x1": 1}}]}], "BDD100K"),
    ("a_gtFine_polygons.json", {"imgHeight": 40, "objects": []}, "Cityscapes"),
    ("annotation_train.odgt", {"ID": "a"}, "a CrowdHuman list"),
    ("output.manifest", {"source-ref": "s3://a.jpg"}, "a SageMaker Ground Truth manifest"),
    ("list.jsonl", {"imageGcsUri": "gs://a.jpg"}, "a Vertex AI list"),
    ("train.tfrecord", "", "a TFRecord dataset"),
    ("nuts.record-00000-of-00010", "", "a TFRecord dataset"),
    ("data/train-00000-of-00001.parquet", "", "a Parquet or Arrow dataset"),
    ("wider_face_split/wider_face_train_bbx_gt.txt", "a.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n", "WIDER FACE"),
    ("labelTxt/a.txt", "", "DOTA, with oriented boxes"),
    ("a1.txt", "1.0 2.0 3.0 4.0 5.0 6.0 7.0 8.0 small-vehicle 0\n", "DOTA, with oriented boxes"),
    ("training/label_2/000000.txt", KITTI, "KITTI"),
    ("labels_kitti/000000.txt", KITTI, "KITTI"),
    ("gt/gt.txt", "1,1,1,2,3,4,1,1,1\n", "MOT Challenge"),
    ("train/_annotations.txt", "a.jpg 1,2,3,4,0\n", "Roboflow's YOLO Keras or PyTorch export"),
    ("boxes.mat", "", "MATLAB's annotations"),
    ("train.pkl", "", "pickled annotations (MMDetection)"),
    ("nuts.vott", {"assets": {}}, "a project of VoTT without its assets"),
]


def put(root: Path, name: str, content: object) -> None:
    draw_image(root / "a.jpg")
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(("name", "content", "tool"), UNREAD)
def test_the_tool_is_named(name: str, content: object, tool: str, tmp_path: Path) -> None:
    put(tmp_path / "data", name, content)
    with pytest.raises(ValueError) as error:
        load_splits(tmp_path / "data")
    assert str(error.value).startswith(f"{tmp_path}/data: this is {tool} ({name}), which is not read; ")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in (tmp_path / "data").rglob("*"):
            archive.write(path, path.relative_to(tmp_path / "data"))
    with pytest.raises(ValueError) as error:
        load_splits(tmp_path / "data.zip")
    assert str(error.value).startswith(f"{tmp_path}/data.zip: this is {tool} ({name}), which is not read; ")


@pytest.mark.parametrize("name", ["masks/a.png", "SegmentationClass/a.png", "a_mask.png"])
def test_masks_alone_are_named(name: str, tmp_path: Path) -> None:
    draw_image(tmp_path / "images/a.jpg")
    draw_image(tmp_path / name)
    with pytest.raises(ValueError, match="this is a folder of masks without boxes"):
        load_splits(tmp_path)


def test_one_file_is_named(tmp_path: Path) -> None:
    put(tmp_path, "tasks.json", [{"task_id": "1", "response": {}}])
    with pytest.raises(ValueError, match=r"tasks\.json: this is an export of Scale \(tasks\.json\)"):
        load_splits(tmp_path / "tasks.json")


@pytest.mark.parametrize(
    ("name", "content"), [("package.json", {"name": "x"}), ("notes.txt", "hello\n"), ("b.jpg", "x")]
)
def test_other_files_are_not_named(name: str, content: object, tmp_path: Path) -> None:
    put(tmp_path, name, content)
    with pytest.raises(ValueError, match="holds no annotations of a known format"):
        load_splits(tmp_path)
