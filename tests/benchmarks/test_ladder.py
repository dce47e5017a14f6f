"""The rungs of the ladder differ in what they say, finished ones are not measured again, and differences are paired."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import ladder
from benchmarks.ladder import CROPS, END_TO_END, FINE_TUNED, FROZEN, RUNGS, difference, recipe
from benchmarks.plot import plot_ladder
from tests.scripts import ROOT


def options_of(tmp_path: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    ladder.add_options(parser)
    data = ["--voc", str(ROOT / "data" / "demo"), "--split", "val", "--work", str(tmp_path / "work")]
    return parser.parse_args([*data, "--results", str(tmp_path / "results.json"), *more])


def row(precision: float, *resampled: float) -> dict[str, Any]:
    numbers = {"mAP": precision, "standard_error": {"mAP": 0.02}, "resampled": list(resampled)}
    return {**numbers, "trained_images": 8, "minutes": 1.0, "seconds": 0.25}


def test_one_thing_changes_from_rung_to_rung(tmp_path: Path) -> None:
    options = options_of(tmp_path, "--max-boxes", "70", "--iterations", "9", "--steps", "5")
    crops, frozen, tuned, end_to_end = (recipe(name, options) for name in (CROPS, FROZEN, FINE_TUNED, END_TO_END))
    assert (crops.features.levels, frozen.features.levels) == ((6,), (6, 3, 2, 1))
    assert crops.features.model_copy(update={"levels": (6, 3, 2, 1), "short_sides": (688,)}) == frozen.features
    assert crops.svm == frozen.svm
    assert not frozen.fine_tuning.enabled
    assert tuned.fine_tuning.enabled
    assert tuned.model_copy(update={"fine_tuning": frozen.fine_tuning}) == frozen
    assert end_to_end.end_to_end.enabled
    assert end_to_end.end_to_end.steps == 5
    assert end_to_end.fine_tuning.head == "softmax"
    for config in (crops, frozen, tuned, end_to_end):
        assert (config.features.backbone, config.features.stage, config.features.weights) == (
            "efficientnet_lite0",
            ladder.STAGE,
            None,
        )
        assert config.proposals.max_boxes == 70
        assert config.regression.enabled
        assert config.detection.box_refinements == 0


def test_differences_are_those_of_the_same_resamples() -> None:
    # the second is always better by .1 or .3: a deviation of .1414 (n - 1), though both vary more
    a, b = row(0.5, 0.2, 0.8), row(0.7, 0.3, 1.1)
    assert difference(a, b) == f"+20.0 ± {100 * np.std([0.1, 0.3], ddof=1):.1f}"


def test_finished_rungs_are_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = []

    def measure_rung(config: object, crops: bool, *_: object) -> dict[str, Any]:
        measured.append(crops)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return row(0.5, 0.4, 0.6)

    monkeypatch.setattr(ladder, "measure_rung", measure_rung)
    plot = tmp_path / "plot.png"
    options = options_of(tmp_path, "--plot", str(plot))
    with pytest.raises(KeyboardInterrupt):
        ladder.measure(options)
    assert ladder.measure(options) == 0
    assert measured == [True, False, False, False, False, False]  # the first is known, the killed second starts again
    printed = capsys.readouterr().out
    assert [name for name in RUNGS if f"| {name} | 50.0 ± 2.0 |" not in printed] == []
    assert plot.read_bytes().startswith(b"\x89PNG")
    ladder.measure(options_of(tmp_path, "--images", "3"))
    assert len(measured) == 6 + len(RUNGS)  # other images are other numbers


def test_a_plot_has_a_point_for_a_method_without_an_error(tmp_path: Path) -> None:
    plot_ladder(tmp_path / "plot.png", {"one": {**row(0.5), "standard_error": {"mAP": None}}})
    assert (tmp_path / "plot.png").stat().st_size > 1000
