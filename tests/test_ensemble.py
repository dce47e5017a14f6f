"""Detectors together: union of their candidates, one suppression, classes by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.boxes import as_boxes
from detector.config import parse_config
from detector.ensemble import Ensemble, load_ensemble
from detector.heads.svm import LinearSVMs
from detector.pipeline import Detector
from tests.test_pipeline import NAMES, PROPOSALS, coloured, fake_detector


def seeing(colour: int, names: tuple[str, ...], gain: float = 1.0) -> Detector:
    """A detector of one class: brightness of a colour, times gain, less 100."""
    weights = np.zeros((3, 1), np.float32)
    weights[colour] = gain
    return replace(fake_detector(), scorer=LinearSVMs(weights, np.full(1, -100, np.float32)), class_names=names)


def test_one_detector_is_what_it_is_alone() -> None:
    for detector in (fake_detector(), fake_detector(move=0.1)):
        alone, together = detector.detect(coloured()), Ensemble([detector]).detect(coloured())
        np.testing.assert_array_equal(together.boxes, alone.boxes)
        np.testing.assert_array_equal(together.scores, alone.scores)
        np.testing.assert_array_equal(together.labels, alone.labels)


def test_the_better_score_suppresses_what_the_other_found() -> None:
    shifted = as_boxes([[6, 0, 70, 64]])
    second = replace(seeing(0, ("red",), gain=0.9), propose=lambda image: shifted)
    second = replace(second, config=parse_config({"proposals": {"seed": 1}}, "test"))  # other boxes than the first
    found = Ensemble([fake_detector(), second]).detect(coloured())
    assert found.class_names == NAMES
    assert found.boxes.tolist() == [[0, 0, 64, 64], [96, 0, 160, 64]]
    # the other way round, the second one's box of the red square is the better one
    second = replace(second, scorer=LinearSVMs(np.array([[2], [0], [0]], np.float32), np.full(1, -100, np.float32)))
    found = Ensemble([fake_detector(), second]).detect(coloured())
    assert found.boxes.tolist() == [[6, 0, 70, 64], [96, 0, 160, 64]]


def test_classes_are_matched_by_name() -> None:
    ensemble = Ensemble([seeing(1, ("green",)), seeing(0, ("red",))])
    assert ensemble.class_names == ("green", "red")
    found = ensemble.detect(coloured())
    assert {found.class_names[label]: box[0] for label, box in zip(found.labels, found.boxes, strict=True)} == {
        "red": 0,
        "green": 96,
    }


def test_detectors_of_one_recipe_share_their_proposals() -> None:
    calls = []

    def propose(image):  # type: ignore[no-untyped-def]
        calls.append(image.shape)
        return PROPOSALS

    detectors = [replace(seeing(k, (NAMES[k],)), propose=propose) for k in (0, 1)]
    Ensemble(detectors).detect(coloured())
    assert len(calls) == 1
    Ensemble(detectors).detect(coloured(), boxes=PROPOSALS)
    assert len(calls) == 1


def test_limits_are_those_that_are_asked_for() -> None:
    ensemble = Ensemble([seeing(1, ("green",)), seeing(0, ("red",))])
    assert [ensemble.class_names[label] for label in ensemble.detect(coloured(), min_score=120).labels] == ["red"]
    assert len(ensemble.detect(coloured(), max_detections=1)) == 1
    assert len(ensemble.detect(coloured(), boxes=np.zeros((0, 4), np.float32))) == 0


def test_what_cannot_be_put_together_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one detector"):
        Ensemble([])
    with pytest.raises(ValueError, match="--weights must be given once for every --model, but there are 1"):
        load_ensemble([Path("a"), Path("b")], weights=[Path("c")])
