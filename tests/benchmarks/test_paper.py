"""The page of the paper's tables is complete, and finished steps are not measured again."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import classify, classify_scratch, paper, rcnn
from benchmarks.paper_page import TABLE_11, page
from benchmarks.trained_methods import Trained
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.readers.voc import VOC_CLASSES
from detector.images.files import write_image
from detector.runtime.files import write_json
from tests.fakes import colored, fake_detector

FACTS = {"machine": "a machine", "train": 250, "test": 51, "fraction": 0.1, "backbone": "zf5", "second": "alexnet"}
RESULT = {"mAP": 0.4, "standard_error": {"mAP": 0.05}, "AP": dict(zip(VOC_CLASSES, TABLE_11, strict=True))}
RESULT["AP"] = {name: value / 100 for name, value in RESULT["AP"].items()}  # type: ignore[attr-defined]
RCNN = ("SPP, 1 scale", "SPP, 5 scales", "R-CNN")


def numbers() -> dict[str, Any]:
    """Return made-up numbers of every step."""
    runs = [{"one": 0.5, "ten": 0.6, "whole": 0.7}, {"one": 0.7, "ten": 0.8, "whole": 0.9}]
    medians = {name: {"features": seconds} for name, seconds in zip(RCNN, (0.5, 2.0, 100.0), strict=True)}
    network = {"channels": 256, "stride": 16, "offset": 20, "receptive_field": 139, "sides": [13, 10]}
    return {
        "architectures": {"networks": {"zf5": network}},
        "from-scratch": {"results": {"pyramid": runs, "multi-size": runs}},
        "frozen-features": {"networks": {"zf5": {row: {"mAP": 0.5} for row in classify.ROWS}}},
        "detection": {
            "rows": {name: {"1": RESULT, "5": RESULT} for name in ("pooled", "fc6", "fc7", "fc7, regression")}
        },
        "rcnn": {
            "mAP": {"1": {name: {"mAP": 0.3} for name in RCNN}},
            "times": {"medians": medians},
            "evaluated_on": "val",
            "trained_on": "train",
        },
        "combination": {"rows": {"zf5": RESULT, "alexnet": RESULT, "both": RESULT}},
    }


def section(text: str, number: int) -> str:
    return text.split(f"## Table {number}: ")[1].split("\n## ")[0]


def test_every_table_stands_beside_the_papers_numbers() -> None:
    text = page(numbers(), FACTS)
    assert [int(number) for number in re.findall(r"^## Table (\d+)", text, re.MULTILINE)] == [*range(1, 14)]
    assert "250 images" in text
    assert "10 % of a whole run" in text
    assert "| pyramid | ten | 70.0 ± 14.1 | 65.0 |" in section(text, 2)
    assert "| fc7, regression | 40.0 ± 5.0 | 40.0 ± 5.0 | 58.0 | 59.2 | 58.5 |" in section(text, 9)
    assert "| R-CNN takes, here | 200 | 50 | 1 |" in section(text, 10)
    assert "| cat | 72.5 | 72.5 |" in section(text, 11)
    assert "Correlation of the two columns: 1.00" in section(text, 11)
    assert "| pyramid, whole image, 392 | 50.0 | 71.67 |" in section(text, 6)
    for number in (5, 7, 13):
        assert "Not measured" in section(text, number)


def test_what_was_not_measured_says_why() -> None:
    found = numbers() | {"combination": {"reason": "alexnet: no weights"}}
    del found["rcnn"]
    text = page(found, FACTS)
    assert "Not measured: alexnet: no weights" in section(text, 12)
    assert "Not measured in this run" in section(text, 10)
    assert "59.2" in section(text, 9)


def test_finished_steps_are_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def step(name: str) -> dict[str, Any]:
        calls.append(name)
        if name == "rcnn" and calls.count("rcnn") == 1:
            raise ValueError("no space")
        return numbers()[name]

    monkeypatch.setattr(paper, "STEPS", {name: lambda job, name=name: step(name) for name in numbers()})
    monkeypatch.setattr(paper.Job, "key", "of these images")
    monkeypatch.setattr(paper.Job, "description", FACTS)
    parser = argparse.ArgumentParser()
    paper.add_options(parser)
    files = ["--results", str(tmp_path / "results.json"), "--page", str(tmp_path / "page.md")]
    options = parser.parse_args(["--voc", str(tmp_path), "--work", str(tmp_path), *files])
    assert paper.measure(options) == 0
    assert "Not measured: no space" in section((tmp_path / "page.md").read_text(encoding="utf-8"), 10)
    assert paper.measure(options) == 0
    assert calls == [*numbers(), "rcnn"]
    assert "| R-CNN takes, here | 200 | 50 | 1 |" in (tmp_path / "page.md").read_text(encoding="utf-8")


def job_of(tmp_path: Path, *more: str) -> paper.Job:
    parser = argparse.ArgumentParser()
    paper.add_options(parser)
    files = ["--results", str(tmp_path / "results.json"), "--work", str(tmp_path)]
    return paper.Job(parser.parse_args(["--voc", str(tmp_path / "VOC2007"), *files, *more]))


def test_steps_give_other_benchmarks_their_part_of_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path, "--fraction", "0.1", "--backbone", "alexnet", "--weights", "alexnet.safetensors")
    monkeypatch.setattr(paper.Job, "train_set", [None] * 250)
    monkeypatch.setattr(paper.Job, "test_set", [None] * 51)
    given: dict[int, Any] = {}

    def measure(options: argparse.Namespace) -> int:
        given[len(given)] = options
        write_json(options.json, {"done": len(given)})
        return 0

    for module in (classify_scratch, classify, rcnn):
        monkeypatch.setattr(module, "measure", measure)
    steps = (paper.from_scratch, paper.frozen_features, paper.against_rcnn)
    assert [step(job)["done"] for step in steps] == [1, 2, 3]
    scratch, frozen, crops = given.values()
    assert [(each.train_images, each.images) for each in given.values()] == [(250, 51), (250, 51), (100, 25)]
    assert [(each.train_split, each.split) for each in given.values()] == [("train", "val")] * 3
    assert (scratch.seeds, list(scratch.methods)) == (2, list(classify_scratch.METHODS))
    assert frozen.networks == ["alexnet=alexnet.safetensors"]
    assert (crops.backbone, crops.weights, crops.time_images) == ("alexnet", "alexnet.safetensors", 2)


def test_detection_is_measured_with_and_without_box_regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The regressor shifts boxes by .6 of their width: off the objects, which are found without it."""
    write_image(tmp_path / "a.png", colored())
    boxes = np.array([[0, 0, 64, 64], [96, 0, 160, 64]], np.float32)
    annotation = Annotation("a", tmp_path / "a.png", boxes, np.array([0, 1]), np.zeros(2, np.bool_))
    dataset = Dataset((annotation,), ("red", "green"), "one")
    asked = []

    def trained(job: paper.Job, scales: Any, layer: str, second: bool = False, regression: bool = False) -> Trained:
        asked.append((tuple(scales), layer, second, regression))
        detector = fake_detector(0.6 if regression and not second else None)
        return Trained(detector, detector.cache(tmp_path / "cache"), 1.0)

    monkeypatch.setattr(paper.Job, "trained", trained)
    monkeypatch.setattr(paper.Job, "test_set", dataset)
    monkeypatch.setattr(paper.Job, "description", FACTS)
    job = job_of(tmp_path)
    rows = paper.detection(job)["rows"]
    assert len(asked) == 6
    assert {each[3] for each in asked if each[1] != "fc7"} == {False}
    for scales in ("1", "5"):
        assert rows["fc7"][scales]["mAP"] == rows["pooled"][scales]["mAP"] == 1
        assert rows["fc7, regression"][scales]["AP"]["red"] == 0
    rows = paper.combination(job)["rows"]
    assert rows["efficientnet_lite0"]["AP"]["red"] == 0
    assert rows["alexnet"]["mAP"] == 1
    assert rows["both"]["AP"]["red"] > 0


@pytest.mark.parametrize("text", ["0", "1.5", "-1", "nan"])
def test_a_fraction_is_above_0_and_at_most_1(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    paper.add_options(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--voc", str(tmp_path), "--results", str(tmp_path / "r.json"), "--fraction", text])
    assert "must be above 0 and at most 1" in capsys.readouterr().err
