"""spp explain: panels, JSON, the diagnosis of a box, and wrong usage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detector.datasets.dataset import Dataset
from detector.images.files import read_image
from detector.pipeline import Detector
from tests.scripts import spp


@pytest.fixture(scope="module")
def model(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    detector.save(path)
    return path


@pytest.mark.all
def test_panels_and_json(model: Path, test_set: Dataset, tmp_path: Path) -> None:
    image = test_set[0].path
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff no image")
    size = read_image(image).shape
    asked = ("--box", f"0,0,{size[1]},{size[0]}", "--class", test_set.class_names[0])
    common = ("damaged.jpg", image, "--model", model, "--json", "found.json")
    done = spp("explain", *common, "--output", "panels", *asked, cwd=tmp_path)
    assert done.returncode == 2
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert error.startswith("error: damaged.jpg: ")
    (record,) = json.loads((tmp_path / "found.json").read_text())
    assert (record["image"], record["width"], record["height"]) == (str(image), size[1], size[0])
    assert len(record["detections"]) > 0
    for each in [*record["detections"], record["asked"]]:
        assert list(each["levels"]) == ["3", "1"]
        assert np.shape(each["levels"]["3"]) == (3, 3)
        total = sum(np.sum(grid) for grid in each["levels"].values())
        assert each["bias"] + total == pytest.approx(each["score"], abs=1e-3)
    assert record["asked"]["outcome"] == "low score"
    panels = {path.name for path in (tmp_path / "panels").glob("[!.]*")}
    names = ["asked", *range(1, len(record["detections"]) + 1)]
    assert panels == {f"{image.stem}-{name}.png" for name in names}
    assert read_image(tmp_path / "panels" / f"{image.stem}-1.png").shape[1] == 1200
    lines = done.stdout.splitlines()
    assert len(lines) == len(names)
    assert lines[0].endswith(record["asked"]["sentence"])
    # the detections are those of spp detect
    spp("detect", *common, cwd=tmp_path)
    (plain,) = json.loads((tmp_path / "found.json").read_text())
    kept = [{name: each[name] for name in ("label", "score", "box")} for each in record["detections"]]
    assert kept == plain["detections"]


@pytest.mark.all
def test_no_panel_replaces_an_image(model: Path, test_set: Dataset, tmp_path: Path) -> None:
    original = test_set[0].path.read_bytes()
    for name in ("dog.jpg", "dog-1.png"):
        (tmp_path / name).write_bytes(original)
    done = spp(
        "explain", "dog.jpg", "dog-1.png", "--model", model, "--output", ".", "--max-detections", "1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dog-1.png").read_bytes() == original
    assert {path.name for path in tmp_path.iterdir()} == {
        *("dog.jpg", "dog-1.png", "dog-1_2.png", "dog-1-1.png", ".spp-detect")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--box", "1,2,3,4"], "error: --box and --class go together"),
        (["--class", "dog"], "error: --box and --class go together"),
        (["--box", "1,2,3", "--class", "dog"], "must be four numbers x1,y1,x2,y2, but is '1,2,3'"),
        (["--box", "1,2,3,nan", "--class", "dog"], "must be four numbers"),
        (["--max-detections", "0"], "error: --max-detections must be at least 1, but is 0"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = spp("explain", "image.jpg", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_questions_that_the_model_cannot_answer(model: Path, test_set: Dataset, tmp_path: Path) -> None:
    image = test_set[0].path
    for box, name, message in (
        ("0,0,50,50", "unicorn", "unknown class 'unicorn'; the model knows "),
        ("9000,0,9999,50", test_set.class_names[0], "box must have an area inside the image of "),
    ):
        done = spp("explain", image, "--model", model, "--box", box, "--class", name, cwd=tmp_path)
        assert done.returncode == 2
        assert f"error: {image}: {message}" in done.stderr
        assert not (tmp_path / "explanations").exists()
