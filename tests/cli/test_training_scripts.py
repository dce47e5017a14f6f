"""The scripts that train, detect, evaluate and compare settings, on synthetic images."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from detector.datasets.dataset import Dataset
from detector.images.files import read_image
from detector.pipeline import Detector
from tests.fakes import CONFIG
from tests.scripts import spp


def test_detect_script(detector: Detector, test_set: Dataset, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    detector.save(model)
    good, bad = tmp_path / "good one.png", tmp_path / "bad.jpg"
    shutil.copy(test_set[0].path, good)
    bad.write_bytes(b"no image")
    done = spp("detect", bad, good, "--model", model, "--json", "out/found.json", "--profile", cwd=tmp_path)
    assert done.returncode == 2
    profiled = [line for line in done.stderr.splitlines() if line.startswith(f"{good}: proposals ")]
    assert re.findall(r"(\w[\w ]*?) [\d.]+ s", profiled[0].removeprefix(f"{good}: "))[1:] == [
        "convolution at 320",
        "pooling and scores",
        "suppression",
        "box regression",
        "drawing",
    ]
    assert any(line.startswith(f"error: {bad}: ") for line in done.stderr.splitlines())
    (record,) = json.loads((tmp_path / "out" / "found.json").read_text())
    assert set(record) == {"image", "width", "height", "detections"}
    assert record["image"] == str(good)
    assert len(record["detections"]) == len(done.stdout.splitlines()) > 0
    first = record["detections"][0]
    fields = done.stdout.splitlines()[0].split("\t")
    assert fields[:2] == [str(good), first["label"]]
    assert float(fields[2]) == pytest.approx(first["score"], abs=1e-3)
    assert [float(value) for value in fields[3:]] == pytest.approx(first["box"], abs=0.06)
    assert read_image(tmp_path / "detections" / "good one.png").shape == read_image(good).shape


@pytest.mark.all
def test_scripts_train_and_evaluate_own_classes(root: Path, test_set: Dataset, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(CONFIG))
    data = ("--voc", root, "--cache", "cache")
    classes = ("--classes", *test_set.class_names)
    done = spp("cache", recipe, *data, "--split", "train", *classes, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = spp("train", recipe, *data, "--split", "train", *classes, "--output", "m.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "objective" not in done.stderr
    assert Detector.load(tmp_path / "m.safetensors").record["images"] == 24
    assert done.stdout == f"m.safetensors: 3 classes from 24 images of {root.name} train\n"
    files = ("--json", "a.json", "--save-detections", "found")
    done = spp("evaluate", *data, "--split", "test", "--model", "m.safetensors", *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "cache")
    files = ("--json", "b.json", "--detections", "found")
    done = spp("evaluate", *data[:2], "--split", "test", *classes, *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "a.json").read_text())
    assert set(result) == {"metric", "mAP", "AP", "COCO_AP", "images"}
    assert (result["metric"], result["images"]) == ("area", 10)
    assert set(result["AP"]) == set(test_set.class_names)
    assert json.loads((tmp_path / "b.json").read_text()) == result


@pytest.mark.all
def test_settings_are_compared_on_held_out_images(root: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(CONFIG))
    variants = ("--try", "detection.nms_iou=0.9", "--try", "detection.nms_iou=0.9,svm.C=1e-6")
    arguments = (recipe, "--voc", root, "--split", "train", "--cache", "cache", "--results", "kept.json", *variants)
    first = spp("compare", *arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "trained on 20, scored on 4 other images" in first.stdout
    rows = [re.fullmatch(r"(.*?) +mAP +([\d.]+) +(\d+) s", line) for line in first.stdout.splitlines()[1:]]
    names, results, _ = zip(*(row.groups() for row in rows if row), strict=True)
    assert names == ("as it is", *variants[1::2])
    assert len(set(results)) == 3  # repeated boxes are false, and a C so small learns nothing
    assert json.loads((tmp_path / "kept.json").read_text()).values()
    shutil.rmtree(tmp_path / "cache")
    assert spp("compare", *arguments, cwd=tmp_path).stdout == first.stdout


@pytest.mark.all
def test_an_image_cut_short_is_named_and_left_out(root: Path, test_set: Dataset, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "voc")
    for split in ("train", "test"):
        image_id = (tmp_path / f"voc/ImageSets/Main/{split}.txt").read_text().split()[0]
        (image,) = (tmp_path / "voc/JPEGImages").glob(f"{image_id}.*")
        image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    (tmp_path / "recipe.yaml").write_text(json.dumps(CONFIG))
    data = ("--voc", "voc", "--cache", "cache")
    done = spp("train", "recipe.yaml", *data, "--split", "train", "--output", "m.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on without it" in done.stderr
    done = spp("evaluate", *data, "--split", "test", "--model", "m.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == 1


def test_scripts_name_what_is_wrong_with_data(root: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("featurs: {}")
    data = (
        "--voc",
        root,
        "--split",
        "train",
        "--cache",
        tmp_path / "cache",
        "--output",
        tmp_path / "model.safetensors",
    )
    done = spp("train", recipe, *data, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "recipe.yaml: unknown key 'featurs'" in done.stderr
    recipe.write_text("")
    done = spp("train", recipe, *data, "--classes", "circle", "square", "--strict", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown class 'triangle'" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    done = spp("evaluate", "--voc", root, "--split", "nope", "--detections", root, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    done = spp("evaluate", *data[:2], "--split", "train", "--model", "m", "--record", "--min-score", "1", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "thresholds do not go with --detections, which are scored as they are, nor with --record" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.jpg",), "nowhere.jpg"),
        (("x.jpg", "--max-detections", "0"), "--max-detections must be at least 1, but is 0"),
        (("x.jpg", "--min-score", "high"), "invalid float value: 'high'"),
        ((), "give IMAGEs, or --list FILE"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = spp("detect", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_images_too_few_to_hold_one_out_are_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("")
    data = ("--voc", root, "--split", "train", "--cache", "cache", "--max-images", "4")
    done = spp("compare", "recipe.yaml", *data, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there are 4 images: none is left to score with --score-every 5" in done.stderr
    assert not (tmp_path / "cache").exists()
