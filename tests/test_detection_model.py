"""What a detector shows by default and on request, of images of every kind."""

from __future__ import annotations

import copy
import io
import logging
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import detector
from detector.boxes import as_boxes
from detector.heads.calibration import PRECISIONS, Calibration
from detector.images.files import ImageLike, write_image
from detector.pipeline import Detector
from tests.explanation.models import KINDS, random_detector, random_image
from tests.fakes import NAMES, colored, fake_detector, with_heads

LOG_ODDS_OF_FLOOR = np.log(0.3 / 0.7)


def calibrated(best_f1: tuple[float, float], **changes: Any) -> Detector:
    """The probability of a score is ``1 / (1 + exp(-score / 100))``: 82 % for red, 150, and 73 % for green, 100."""
    learned = {"slopes": np.full(2, 0.01), "offsets": np.zeros(2), "at_precision": np.zeros((PRECISIONS, 2)), **changes}
    return with_heads(fake_detector(), calibration=Calibration(best_f1=np.array(best_f1, np.float32), **learned))


def test_the_best_f1_counts_down_to_a_probability_of_three_tenths() -> None:
    floor = 100 * LOG_ODDS_OF_FLOOR
    assert calibrated((50, -50)).default_thresholds.tolist() == [50, -50]
    assert calibrated((50, -300)).default_thresholds == pytest.approx([50, floor])
    # a class that was right in less than 30 % at every score shows nothing
    precisions = np.where(np.arange(1, PRECISIONS + 1)[:, None] < [30, 31], 0, np.inf)
    assert calibrated((50, -300), at_precision=precisions).default_thresholds == pytest.approx([np.inf, floor])
    assert fake_detector().default_thresholds.tolist() == [0, 0]


def test_a_model_too_weak_for_any_box_says_so(caplog: pytest.LogCaptureFixture) -> None:
    weak = calibrated((50, -50), at_precision=np.full((PRECISIONS, 2), np.inf))
    assert weak.too_weak and not calibrated((50, -50)).too_weak and not fake_detector().too_weak
    assert len(weak.detect(colored())) == 0
    (line,) = caplog.messages
    assert line.startswith("the model is too weak to show boxes by default") and "--min-probability" in line
    assert len(weak.detect(colored(), min_probability=0.5)) == 2
    assert len(caplog.messages) == 1
    assert "too weak" in repr(weak)


def test_limits() -> None:
    model = calibrated((50, -50))
    found = model.detect(colored())
    assert [each.class_name for each in found] == ["red", "green"]
    assert found.probabilities == pytest.approx([1 / (1 + np.exp(-1.5)), 1 / (1 + np.exp(-1))])
    assert [each.class_name for each in model.detect(colored(), min_probability=0.75)] == ["red"]
    assert [each.class_name for each in model.detect(colored(), classes=["green"])] == ["green"]
    assert [each.class_name for each in model.detect(colored(), classes="green", min_score=0)] == ["green"]
    assert len(model.detect(colored(), classes=[])) == 0
    assert len(model.detect(colored(), max_detections=1)) == 1
    for limits, message in (
        ({"classes": ["green", "blue"]}, "there is no class 'blue'; there are red, green"),
        ({"min_probability": 1.5}, r"min_probability must be in 0\.\.1, but is 1.5"),
        ({"min_score": 0, "precision": 0.5}, "at most one of min_score, min_probability and precision"),
        ({"max_detections": 0}, "max_detections must be at least 1, but is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            model.detect(colored(), **limits)
    with pytest.raises(ValueError, match="precision needs one model with a calibration"):
        fake_detector().detect(colored(), precision=0.5)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 100),
    st.sampled_from(["pooled", "moved", "refined"]),
    st.lists(st.floats(-3, 0), min_size=2, max_size=2).map(sorted),
)
def test_a_lower_score_adds_detections_and_leaves_the_others(seed: int, kind: str, scores: list[float]) -> None:
    model, image = random_detector(seed, max_detections=1000, **KINDS[kind]), random_image(seed)
    low, high = (model.detect(image, min_score=score) for score in scores)
    assert len(high) <= len(low)
    assert low.above(scores[1]).to_records() == high.to_records()


def test_boxes_below_the_recipes_score_are_as_proposed_and_never_suppress() -> None:
    # refinement would move both to the left; the second has no red and scores -100, the third lies on the first
    proposals = as_boxes([[16, 0, 80, 64], [96, 0, 160, 64], [80, 0, 144, 64], [64, 64, 128, 128]])
    model = fake_detector(move=-0.25, propose=lambda image: proposals)
    model = model.with_detection(box_refinements=1, min_score=0.0)
    (found,) = model.detect(colored(), min_score=0, classes="red")
    assert found.box == (0, 0, 64, 64)
    for min_score in (-99, -100):
        low = model.detect(colored(), min_score=min_score, classes="red")
        assert low[0] == found
        assert [each.box for each in low[1:]] == [(96, 0, 160, 64), (64, 64, 128, 128)][: 2 * (min_score == -100)]
        assert [each.score for each in low[1:]] == [-100, -100][: len(low) - 1]


def test_a_list_of_images_of_every_kind(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", colored())
    content = (tmp_path / "a.png").read_bytes()
    model = fake_detector()
    images: list[ImageLike] = [colored(), tmp_path / "a.png", str(tmp_path / "a.png"), content, io.BytesIO(content)]
    images.append(Image.open(tmp_path / "a.png"))
    found = model.detect(images)
    assert [each.to_records() for each in found] == [model.detect(colored()).to_records()] * len(images)
    with (tmp_path / "a.png").open("rb") as file:
        assert len(model.detect((file,))[0]) == 2
    assert model.detect([]) == []
    with pytest.raises(ValueError, match="boxes are those of one image"):
        model.detect([colored()], boxes=as_boxes([[0, 0, 9, 9]]))  # type: ignore[call-overload]
    wrong: list[tuple[Any, str]] = [(b"none", "not a JPEG"), (io.StringIO("text"), "binary mode"), (7, "but got int")]
    for image, message in wrong:
        with pytest.raises(ValueError, match=message):
            model.detect(image)


def test_given_boxes_outside_of_the_image_give_nothing() -> None:
    outside = as_boxes([[-500, -500, -100, -100], [160, 0, 170, 64], [0, 0, 64, 64]])
    (found,) = fake_detector().detect(colored(), boxes=outside)
    assert found.box == (0, 0, 64, 64)


def test_copies_detect_the_same(tmp_path: Path, cat: Any) -> None:
    model = detector.load()
    expected = model.detect(cat).to_records()
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert again.class_names == model.class_names and again.detect(cat).to_records() == expected
    assert len({model, model}) == 1 and model == model


def test_a_model_in_a_line() -> None:
    record = {"trained_on": "pets train", "images": 30, "cross_validation": {"metric": "area", "mAP": 0.821}}
    model = replace(fake_detector(), record=record)
    assert model.metrics["metric"] == "area" and fake_detector().metrics == {}
    assert repr(model) == (
        "Detector(2 classes: red, green; trained on 30 images of pets train; mAP 82.1 %; no probabilities)"
    )
    assert repr(detector.Ensemble([fake_detector()])) == f"Ensemble([{fake_detector()!r}])"
    assert fake_detector().class_names == NAMES


@pytest.fixture(autouse=True)
def _log_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
