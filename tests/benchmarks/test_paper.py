"""The page of the paper's tables is complete, and finished steps are not measured again."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import classify, paper
from benchmarks.paper_page import TABLE_11, page
from detector.datasets.readers.voc import VOC_CLASSES

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


@pytest.mark.parametrize("text", ["0", "1.5", "-1", "nan"])
def test_a_fraction_is_above_0_and_at_most_1(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    paper.add_options(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--voc", str(tmp_path), "--results", str(tmp_path / "r.json"), "--fraction", text])
    assert "must be above 0 and at most 1" in capsys.readouterr().err
