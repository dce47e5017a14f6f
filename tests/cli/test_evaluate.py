"""Evaluations that were killed and resume; with a detector that takes no time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.cli import console, evaluate
from detector.datasets.dataset import Annotation
from detector.ensemble import Ensemble
from detector.images.files import write_image
from detector.parallel.map_images import Threads
from detector.runs import evaluation_state
from detector.runs.evaluate_images import ImageEvaluator
from tests.fakes import colored, fake_detector

Call = Callable[..., int]

N_IMAGES = 7


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A COCO file of images with a red and a green object; the boxes of the last one are elsewhere, one is damaged."""
    images: list[Any] = []
    annotations: list[Any] = []
    for number in range(N_IMAGES):
        write_image(tmp_path / f"{number}.png", colored())
        images.append({"id": number, "file_name": f"{number}.png", "width": 160, "height": 160})
        shift = 70 if number == N_IMAGES - 1 else 0
        for category, x in ((1, 0), (2, 96)):
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": category, "iscrowd": 0}
                | {"bbox": [x, shift, 64, 64], "area": 4096}
            )
    content = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(content[:100])
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


@pytest.fixture
def call(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command on the data, three images a file of its state; its exit code."""
    pytest.importorskip("pycocotools")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("detector.ensemble.load_ensemble", lambda *_: Ensemble([fake_detector()]))
    monkeypatch.setattr(evaluate, "engine_of", lambda options: Threads(1))
    monkeypatch.setattr(evaluation_state, "SIZE", 3)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["spp evaluate", "--coco", str(data), *arguments])
        with pytest.raises(SystemExit) as ended:
            console.run(evaluate.main)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


@pytest.fixture
def detected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that were detected in."""
    done: list[str] = []
    detect = ImageEvaluator.__call__

    def noted(self: Any, annotation: Annotation) -> Any:
        done.append(annotation.path.name)
        return detect(self, annotation)

    monkeypatch.setattr(ImageEvaluator, "__call__", noted)
    return done


@pytest.mark.parametrize("report", [False, True])
@pytest.mark.all
def test_a_killed_evaluation_goes_on_where_it_was(
    call: Call, tmp_path: Path, detected: list[str], monkeypatch: pytest.MonkeyPatch, report: bool
) -> None:
    more = ("--report", "report") if report else ()
    assert call("--json", "whole.json", "--save-detections", "whole", *more) == 0
    assert len(detected) == N_IMAGES
    page = (tmp_path / "report" / "metrics.json").read_text() if report else ""
    evaluations = tmp_path / "cache" / "spp-detector" / "evaluations"
    assert not any(evaluations.iterdir())

    detected.clear()
    with monkeypatch.context() as patch:
        patch.setattr(evaluation_state.State, "add", after(evaluation_state.State.add, 5))
        assert call("--json", "again.json", "--save-detections", "again", *more) == 130
    # other thresholds are another evaluation
    assert call("--json", "other.json", "--min-score", "120") == 0
    assert json.loads((tmp_path / "other.json").read_text())["AP"]["green"] == 0
    detected.clear()
    assert call("--json", "again.json", "--save-detections", "again", *more) == 0
    assert detected == [f"{number}.png" for number in range(3, N_IMAGES)]
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    if report:
        again = json.loads((tmp_path / "report" / "metrics.json").read_text())
        assert {**again, "circumstances": None} == {**json.loads(page), "circumstances": None}
    assert not any(evaluations.iterdir())


def test_what_fails_after_the_detection_is_repeated_without_it(
    call: Call, tmp_path: Path, detected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("detector.cli.evaluate.write_json", after(lambda *_: None, 0))
        assert call("--json", "numbers.json") == 130
    n_stored = len(detected) - len(detected) % 3
    detected.clear()
    assert call("--json", "numbers.json") == 0
    assert len(detected) == N_IMAGES - n_stored


def test_another_image_is_another_evaluation(
    call: Call, tmp_path: Path, detected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(evaluation_state.State, "add", after(evaluation_state.State.add, 5))
        assert call() == 130
    write_image(tmp_path / "1.png", np.zeros((160, 160, 3), np.uint8))
    detected.clear()
    assert call() == 0
    assert len(detected) == N_IMAGES


def after(function: Callable[..., Any], n: int) -> Callable[..., Any]:
    """The function, but the call after so many is interrupted."""
    calls: list[Any] = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) > n:
            raise KeyboardInterrupt
        return function(*arguments)

    return interrupted
