"""Reports of an evaluation, of saved detections of all forms, and of two runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.datasets.dataset import Dataset
from detector.detections import Detections
from detector.ensemble import Ensemble
from detector.evaluation.coverage import image_coverage, join_coverage
from detector.evaluation.voc_results import write_detections
from detector.images.files import write_image
from detector.runs.evaluate_images import EvaluatorFactory
from tests.evaluation.boxes import objects
from tests.fakes import PROPOSALS, coco_of, colored, fake_detector
from tests.scripts import spp

FILES = {".spp-detect", "report.html", "metrics.json", "metrics.csv", "errors.csv", "detections.json"}


@pytest.fixture(scope="module")
def saved(test_set: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with comp4 files of detections that are right but for the first image, which has none."""
    folder = tmp_path_factory.mktemp("saved")
    found = [
        Detections(
            each.boxes, each.labels, np.linspace(0.9, 0.5, len(each.labels), dtype=np.float32), test_set.class_names
        )
        for each in test_set
    ]
    found[0] = Detections.empty(test_set.class_names)
    ids = [each.image_id for each in test_set]
    write_detections(folder / "a", "test", ids, found)
    write_detections(folder / "b", "test", ids, found[:1] * 2 + found[2:])
    return folder


@pytest.mark.all
def test_reports_of_saved_detections(root: Path, saved: Path, test_set: Dataset, tmp_path: Path) -> None:
    data = ("--voc", root, "--split", "test", "--classes", *test_set.class_names)
    done = spp("report", saved / "a", *data, "--output", "one/two", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "one/two/report.html\n"), done.stderr
    assert {path.name for path in (tmp_path / "one" / "two").iterdir()} == FILES
    metrics = json.loads((tmp_path / "one" / "two" / "metrics.json").read_text())
    assert metrics["missed_because"] == {}  # needs proposals

    # the report's own detections.json, the folder of the report, and the evaluation itself say the same
    options = (*data, "--metric", "area", "--output", "again")
    done = spp("report", tmp_path / "one" / "two" / "detections.json", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    options = ("--detections", saved / "a", "--report", "evaluated", "--json", "result.json", "--metric", "area")
    done = spp("evaluate", *data, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    evaluated = json.loads((tmp_path / "evaluated" / "metrics.json").read_text())
    result = json.loads((tmp_path / "result.json").read_text())
    assert again["AP"] == evaluated["AP"] == result["AP"]
    assert again["mAP"] == evaluated["mAP"] == result["mAP"] < 1

    done = spp("report", saved / "a", saved / "b", *data, "--output", "both", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "both" / "report.html").read_text()
    assert 'id="changes"' in page and str(saved / "b") in page


def test_a_report_of_a_detector_has_the_coverage_of_its_proposals(tmp_path: Path) -> None:
    detector = fake_detector()
    write_image(tmp_path / "1.png", colored())
    # equal proposers propose once
    model = Ensemble([detector, detector])
    evaluate = EvaluatorFactory(lambda: model, detector.class_names, coverage=True)()
    image = objects("1", ((0, 0, 64, 64), 0, False), ((0, 96, 160, 160), 1, False))
    first = evaluate(replace(image, path=tmp_path / "1.png"))[0].coverage
    assert first is not None
    second = objects("2", ((0, 0, 64, 64), 0, False))
    coverage = join_coverage([first, image_coverage(np.zeros((0, 4), np.float32), second.boxes)])
    assert coverage.n_proposals.tolist() == [len(PROPOSALS), 0]
    assert coverage.best[:, [0, -1]].tolist() == [[1, 1], [0, 1], [0, 0]]


def test_coco_ids_are_those_of_the_file(root: Path, saved: Path, test_set: Dataset, tmp_path: Path) -> None:
    content = coco_of(test_set, extra_category="extra")
    for each in content["images"]:  # type: ignore[attr-defined]
        each["id"] += 500
    for each in content["annotations"]:  # type: ignore[attr-defined]
        each["image_id"] += 500
    (tmp_path / "test.json").write_text(json.dumps(content))
    data = ("--coco", "test.json", "--images", root / "JPEGImages", "--classes", *test_set.class_names)
    done = spp("report", saved / "a", *data, "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {each["category_id"] for each in found} <= {1, 2, 3}
    assert min(each["image_id"] for each in found) == 501


def test_mistakes_are_reported_before_any_work(root: Path, saved: Path, test_set: Dataset, tmp_path: Path) -> None:
    data = ("--voc", root, "--split", "test", "--classes", *test_set.class_names)
    (tmp_path / "file").write_text("{}")
    (tmp_path / "other.json").write_text('{"metric": "voc07", "mAP": 1, "AP": {}, "images": 10}')
    for arguments, message in (
        ((saved / "a", saved / "b", saved / "a"), "but not 3"),
        ((saved / "none",), "no such folder"),
        ((saved / "a", "--output", "file"), "file is not a folder that may be written to"),
        ((saved / "a", "--baseline", "file"), "not the numbers of a run"),
        ((saved / "a", "--baseline", "other.json"), "metric must be area, as in this run, but is 'voc07'"),
        ((saved / "a", "--baseline", "gone.json"), "gone.json: no such file"),
        ((saved / "a", "--metric", "coco"), "invalid choice: 'coco'"),
        (("file",), "must be a list of detections"),
    ):
        done = spp("report", *arguments, *data, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert message in done.stderr
    done = spp("evaluate", *data, "--detections", saved / "a", "--baseline", "file", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: --baseline needs --report, which shows the difference\n")
    assert not (tmp_path / "report").exists()
