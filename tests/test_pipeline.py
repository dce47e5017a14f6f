"""The detector as a whole: fake stages for its logic, a trained one for files and images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from detector.boxes import as_boxes
from detector.build import build_encoder, build_proposer
from detector.config.detector import Config, parse_config
from detector.heads.heads import Heads
from detector.heads.linear import BoxRegressors, LinearSVMs
from detector.pipeline import Detector
from detector.runtime.array_files import read_arrays, write_arrays
from tests.fakes import NAMES, colored, fake_detector, with_heads


def test_objects_are_found_scored_and_suppressed() -> None:
    found = fake_detector().detect(colored())
    assert [NAMES[label] for label in found.labels] == ["red", "green"]
    np.testing.assert_allclose(found.scores, [150, 100])
    assert found.boxes.tolist() == [[0, 0, 64, 64], [96, 0, 160, 64]]


def test_regressors_move_clip_and_suppress_again() -> None:
    found = fake_detector(move=-0.25).detect(colored())
    # a quarter of 64 px to the left, cut at the edge; green does not move
    assert found.boxes.tolist() == [[0, 0, 48, 64], [96, 0, 160, 64]]


@pytest.mark.parametrize("box_refinements", [0, 1])
def test_boxes_that_are_moved_out_of_the_image_are_dropped(box_refinements: int) -> None:
    found = fake_detector(move=-2).with_detection(box_refinements=box_refinements, min_score=0.0).detect(colored())
    assert [NAMES[label] for label in found.labels] == ["green"]


def test_settings_of_detection_are_checked() -> None:
    detector = fake_detector(move=0.1)
    assert detector.with_detection(min_score=120).config.detection.min_score == 120
    for settings, message in (
        ({"nms": 0.5}, "unknown key 'detection.nms'"),
        ({"nms_iou": 2.0}, "detection.nms_iou: "),
        ({"max_detections": 0}, "detection.max_detections: "),
    ):
        with pytest.raises(ValueError, match=message):
            detector.with_detection(**settings)


def test_thresholds_and_limits_can_be_given() -> None:
    detector = fake_detector()
    assert len(detector.detect(colored(), min_score=120)) == 1
    assert len(detector.detect(colored(), max_detections=1)) == 1
    assert len(detector.detect(colored(), min_score=1000)) == 0


@pytest.mark.parametrize("move", [None, 0.1])
@pytest.mark.parametrize("box_refinements", [0, 1])
def test_more_detections_than_the_recipe_keeps_can_be_asked_for(move: float | None, box_refinements: int) -> None:
    config = parse_config({"detection": {"max_detections": 1, "box_refinements": box_refinements}}, "test")
    detector = replace(fake_detector(move), config=config)
    assert len(detector.detect(colored())) == 1
    assert len(detector.detect(colored(), max_detections=200)) == 2


def test_boxes_can_be_given() -> None:
    found = fake_detector().detect(colored(), boxes=as_boxes([[100, 4, 150, 60]]))
    assert found.boxes.tolist() == [[100, 4, 150, 60]]
    assert len(fake_detector().detect(colored(), boxes=as_boxes([]))) == 0


def test_no_proposals_no_detections() -> None:
    found = fake_detector(propose=lambda image: as_boxes([])).detect(colored())
    assert len(found) == 0
    assert found.class_names == NAMES


def test_parts_must_fit() -> None:
    with pytest.raises(ValueError, match=r"weights of the scores must have shape \(3, 1\), but got \(3, 2\)"):
        replace(fake_detector(), class_names=("red",))
    bad = BoxRegressors(np.zeros((2, 4, 4), np.float32), np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match=r"regressor weights must have shape \(2, 3, 4\), but got \(2, 4, 4\)"):
        with_heads(fake_detector(), regressors=[bad])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with random weights on the smallest real network."""
    config = parse_config(
        {
            "features": {"backbone": "alexnet", "weights": "random", "short_sides": [128], "levels": [1]},
            "proposals": {"max_boxes": 50},
            "detection": {"min_score": -10.0},
        },
        "test",
    )
    rng = np.random.default_rng(0)
    svms = LinearSVMs(rng.standard_normal((256, 2)).astype(np.float32), np.zeros(2, np.float32))
    shifts = rng.normal(scale=0.01, size=(2, 256, 4)).astype(np.float32)
    detector = Detector(
        build_proposer(config.proposals),
        build_encoder(config.features),
        Heads(svms, [BoxRegressors(shifts, np.zeros((2, 4), np.float32))]),
        NAMES,
        config,
        {"trained_on": "nothing", "mAP": 0.25},
    )
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    detector.save(path)
    return path


def test_a_model_survives_its_file(model: Path, cat: NDArray[np.uint8], tmp_path: Path) -> None:
    detector = Detector.load(model)
    assert detector.class_names == NAMES
    assert detector.record == {"trained_on": "nothing", "mAP": 0.25}
    found = detector.detect(cat)
    assert len(found) > 0
    detector.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == model.read_bytes()
    again = Detector.load(tmp_path / "again").detect(cat)
    np.testing.assert_array_equal(again.boxes, found.boxes)
    np.testing.assert_array_equal(again.scores, found.scores)


def rewrite(model: Path, path: Path, **changes: Any) -> Path:
    arrays, metadata = read_arrays(model)
    arrays |= changes.pop("arrays", {})
    write_arrays(path, arrays, {**metadata, **changes})
    return path


def test_models_that_do_not_fit_are_refused(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    save_file({"a": np.zeros(2)}, path)
    with pytest.raises(ValueError, match="bad: was not written by this program"):
        Detector.load(path)
    for changes, message in (
        ({"format": "other 7"}, r"not a model of this program \(format 'other 7'\)"),
        (
            {"backbone_digest": "0123456789abcdef"},
            r"weights of alexnet \(\w+\) are not those of the training \(0123456789ab\)",
        ),
        (
            {"arrays": {"svm.weights": np.zeros((5, 2), np.float32)}},
            r"must have shape \(256, 2\), but got \(5, 2\)",
        ),
        ({"config": {"features": {"backbon": "x"}}}, "unknown key 'features.backbon'"),
        ({"config": {"features": {"backbone": "lenet"}}}, "unknown backbone 'lenet'"),
    ):
        with pytest.raises(ValueError, match=message) as fault:
            Detector.load(rewrite(model, path, **changes))
        assert str(fault.value).startswith(f"{path}: ")
    with pytest.raises(FileNotFoundError):
        Detector.load(tmp_path / "missing")


def test_damaged_models_are_refused(model: Path, tmp_path: Path) -> None:
    content = model.read_bytes()
    for damaged in (content[:100], content[:-8], b"", content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]):
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            Detector.load(path)


def test_the_default_model_finds_the_cat(cat: NDArray[np.uint8]) -> None:
    detector = Detector.load()
    found = detector.detect(cat, min_score=0.0)
    assert isinstance(detector.config, Config)
    assert detector.class_names[found.labels[0]] == "cat"
    x1, y1, x2, y2 = found.boxes[0]
    assert x2 - x1 > 200
    assert y2 - y1 > 150
