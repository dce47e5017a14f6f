"""Evaluations that were killed and resume; with a detector that takes no time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.boxes import as_boxes
from detector.cli import console, evaluate
from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.ensemble import Ensemble
from detector.evaluation.outcomes import gather_outcomes
from detector.evaluation.voc import voc_result
from detector.images.files import write_image
from detector.parallel.map_images import Threads
from detector.pipeline import Detector
from detector.runs import evaluation_state
from detector.runs.evaluate_images import ImageEvaluator
from tests.composites import calibration
from tests.fakes import colored, fake_detector, with_heads
from tests.training.small import annotation

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


def test_every_option_that_changes_what_is_found_is_another_evaluation(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def note(dataset: Dataset, settings: Mapping[str, Any]) -> Any:
        seen.append(json.dumps(settings, sort_keys=True))
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "open_state", note)
    monkeypatch.setattr(evaluate, "model_digests", lambda options: [str(each) for each in options.model or ()])
    boxes = tmp_path / "boxes.npz"
    variants: list[tuple[str, ...]] = [
        (),
        ("--model", "other"),
        ("--min-score", "1"),
        ("--tiles", "4"),
        ("--report", "report"),
        ("--runtime", "torch"),
        ("--device", "meta"),
        ("--proposals", str(boxes)),
    ]
    for number in (0, 1):
        arrays: Any = {str(image): np.array([[0, 0, 9, 9 + number]]) for image in range(N_IMAGES)}
        np.savez(boxes, **arrays)
        for arguments in variants if not number else [(), variants[-1]]:
            assert call(*arguments) == 130
    assert len(set(seen)) == len(variants) + 1 and seen[0] == seen[-2]


def test_probabilities_are_those_of_the_class_of_that_name() -> None:
    model = with_heads(fake_detector(), calibration=calibration([1, 0], [0, 2]))
    found = Detections(as_boxes([[0, 0, 9, 9]] * 2), np.arange(2), np.zeros(2, np.float32), ("green", "red"))
    image = annotation("1", Path("1.png"), [])
    outcomes = gather_outcomes([found], [image], ("green", "red"))
    probabilities = evaluate.probabilities_of(outcomes, Ensemble([model]))
    assert probabilities is not None
    # red: no offset; green: log odds of 2
    assert dict(zip(outcomes.labels.tolist(), probabilities.tolist(), strict=True)) == pytest.approx(
        {0: 1 / (1 + np.exp(-2)), 1: 0.5}
    )
    assert evaluate.probabilities_of(outcomes, Ensemble([fake_detector()])) is None


def test_a_new_result_replaces_that_in_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Any] = []
    monkeypatch.setattr(Detector, "save", lambda self, path: saved.append((self.record, path)))
    model = replace(fake_detector(), record={"mAP": 0.1, "metric": "area", "images": 5})
    empty = Dataset((annotation("1", Path("1.png"), []),), ("red", "green"), "mine val")
    result = voc_result(gather_outcomes([Detections.empty(("red", "green"))], empty, ("red", "green")), "voc07")
    evaluate.record(Ensemble([model]), replace(result, mAP=0.75), empty, Path("model"))
    ((record, path),) = saved
    assert path == Path("model")
    assert record == {
        "mAP": 0.75,
        "metric": "voc07",
        "images": 5,
        "evaluated_on": "mine val",
        "evaluated_images": 1,
    }


def after(function: Callable[..., Any], n: int) -> Callable[..., Any]:
    """The function, but the call after so many is interrupted."""
    calls: list[Any] = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) > n:
            raise KeyboardInterrupt
        return function(*arguments)

    return interrupted
