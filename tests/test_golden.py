"""Files of every version of the formats: read, and scored as on the day that they were written.

`dev.golden` writes them. Scores and boxes are compared within a tolerance, because processors round sums differently.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.config.classifier import load_classifier_config
from detector.config.detector import load_config
from detector.datasets.loading import load_voc
from detector.model_file import DETECTOR, check_model_file
from detector.runtime.array_files import read_arrays
from detector.teaching.project import Project
from dev.golden import CLASSIFIER, DETECTORS, PROJECT, TAUGHT
from tests.scripts import spp

VERSIONS = sorted((Path(__file__).parent / "golden").iterdir())
TOLERANCE = {"score": 1e-3, "probability": 1e-3, "box": 0.05}
"""Of scores and probabilities, and of corners in pixels."""


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the files of a version, since nothing may be written between them."""
    return Path(shutil.copytree(request.param, tmp_path / "golden"))


def assert_equal(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [each["label"] for each in found] == [each["label"] for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, tolerance in TOLERANCE.items():
            np.testing.assert_allclose(one.get(key, 0), other.get(key, 0), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", DETECTORS)
def test_models_score_as_they_did(golden: Path, name: str) -> None:
    import detector

    expected = json.loads((golden / "expected.json").read_text())[name]
    model = detector.load(golden / name)
    for image, records in expected.items():
        found = model.detect(golden / "images" / "JPEGImages" / image, min_score=-10.0, max_detections=10)
        assert_equal(found.to_records(), records)


def test_classifiers_score_as_they_did(golden: Path) -> None:
    import detector

    expected = json.loads((golden / "expected.json").read_text())[CLASSIFIER]
    images = [detector.read_image(golden / "images" / "JPEGImages" / name) for name in expected]
    scores = detector.Classifier.load(golden / CLASSIFIER).scores(images)
    np.testing.assert_allclose(scores, list(expected.values()), rtol=0, atol=1e-4)


def test_a_saved_model_holds_the_arrays_that_were_read(golden: Path, tmp_path: Path) -> None:
    import detector

    detector.load(golden / "added.safetensors").save(tmp_path / "again.safetensors")
    (old, _), (new, _) = read_arrays(golden / "added.safetensors"), read_arrays(tmp_path / "again.safetensors")
    assert {name: (each.dtype, each.tobytes()) for name, each in old.items()} == {
        name: (each.dtype, each.tobytes()) for name, each in new.items()
    }


def test_cached_features_are_read_and_not_computed_again(golden: Path) -> None:
    import detector

    model = detector.load(golden / "added.safetensors")
    files = {path: path.read_bytes() for path in (golden / "cache").rglob("*") if path.is_file()}
    cache = model.cache(golden / "cache")
    (golden / "images" / "JPEGImages").rename(golden / "moved")  # nothing can be computed again
    for each in load_voc(golden / "images", "test", model.class_names):
        assert cache.is_complete(each.image_id)
        arrays, _ = read_arrays(cache.proposals_directory / f"{each.image_id}.safetensors")
        np.testing.assert_array_equal(cache.proposals(each.image_id, each.path), arrays["boxes"])
        assert len(model.detect_cached(cache, each))
    assert {path: path.read_bytes() for path in (golden / "cache").rglob("*") if path.is_file()} == files


def test_recipes_are_read(golden: Path) -> None:
    import detector

    check_model_file(golden / "run", DETECTOR)
    written, model = load_config(golden / "run" / "config.yaml"), detector.load(golden / "run")
    assert written.proposals == model.config.proposals and written.svm == model.config.svm
    assert load_config(golden / "svm.yaml").svm == model.config.svm
    assert load_config(golden / "layers.yaml").fine_tuning.width == 12
    assert load_classifier_config(golden / "classifier.yaml").network.backbone == "zf5/0.05"


@pytest.mark.all
def test_results_are_evaluated_to_the_same_numbers(golden: Path) -> None:
    metrics = json.loads((golden / "results" / "metrics.json").read_text())
    data = ("--voc", "images", "--split", "test", "--detections")
    for number, found in enumerate(("results/devkit", "results/report/detections.json")):
        done = spp("evaluate", *data, found, "--json", f"{number}.json", cwd=golden)
        assert done.returncode == 0, done.stderr
        again = json.loads((golden / f"{number}.json").read_text())
        assert {key: again[key] for key in ("metric", "mAP", "AP")} == {
            key: metrics[key] for key in ("metric", "mAP", "AP")
        }
    done = spp("evaluate", *data, "results/detections/coco.json", cwd=golden)
    assert done.returncode == 0, done.stderr


@pytest.mark.all
def test_results_are_written_as_they_were(golden: Path) -> None:
    old, new = golden / "results" / "detections", golden / "again"
    words = ("--model", "run", "--output", "again", "--format", "json,jsonl,csv,coco,voc,yolo", "--no-drawing")
    done = spp("detect", "images/JPEGImages", *words, cwd=golden)
    assert done.returncode == 0, done.stderr
    names = [sorted(str(path.relative_to(each)) for path in each.rglob("*")) for each in (old, new)]
    assert names[0] == names[1]
    for before, after in zip(*(json.loads((each / "detections.json").read_text()) for each in (old, new)), strict=True):
        assert_equal(after.pop("detections"), before.pop("detections"))
        assert after == before
    headers = [(each / "detections.csv").read_text().splitlines()[0] for each in (old, new)]
    assert headers[0] == headers[1]
    contents = [json.loads((each / "coco.json").read_text()) for each in (old, new)]
    keys = [{name: [[*row] for row in rows] for name, rows in content.items()} for content in contents]
    assert keys[0] == keys[1]


def test_a_finished_folder_of_parts_is_finished(golden: Path) -> None:
    parts = {path.name: path.read_bytes() for path in (golden / "results" / "parts").iterdir()}
    words = ("images/JPEGImages", "--model", "run", "--parts", "results/parts", "--part-size", 1)
    done = spp("detect", *words, cwd=golden)
    assert (done.returncode, done.stdout) == (
        0,
        "results/parts: 2 of 2 images are there already\nresults/parts: 2 images, 4 detections in 2 parts\n",
    ), done.stderr
    assert {path.name: path.read_bytes() for path in (golden / "results" / "parts").iterdir()} == parts


def test_a_finished_run_is_not_overwritten(golden: Path) -> None:
    data = ("--voc", "images", "--split", "test", "--output", "run")
    done = spp("train", "svm.yaml", *data, cwd=golden)
    assert (done.returncode, done.stderr) == (
        2,
        "error: run: holds a training already: say --overwrite, or give another --output\n",
    )


def test_projects_keep_their_labels(golden: Path) -> None:
    project = Project(golden / "images" / "JPEGImages", golden / PROJECT)
    try:
        assert tuple(project.labels(number) for number in range(len(project.images))) == TAUGHT
        assert project.class_names == ("circle", "pièce 硬币")
    finally:
        project.close()
