"""Evidence adds up to the score, in every kind of model, and lies where the features came from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.backbones.geometry import Geometry
from detector.boxes import as_boxes
from detector.detections import Detections
from detector.ensemble import Ensemble
from detector.explanation.evidence import Evidence
from detector.explanation.heat_map import spread
from detector.pipeline import Detector
from tests.explanation.models import KINDS, NAMES, random_detector, random_image
from tests.fakes import coloured, fake_detector


def check(evidence: Evidence, score: float) -> None:
    assert evidence.score == pytest.approx(score, abs=1e-6)
    assert abs(evidence.rounding) < 1e-4
    shares = sum(grid.sum() for grid in evidence.levels.values())
    assert evidence.bias + shares == pytest.approx(score, abs=1e-6)
    record = evidence.to_record()
    assert record["bias"] + sum(map(np.sum, record["levels"].values())) == pytest.approx(score, abs=1e-3)
    heat = evidence.heat_map()
    assert heat.shape == evidence.image_size
    assert heat.dtype == np.float32
    assert heat.sum(dtype=np.float64) == pytest.approx(shares, abs=1e-3)
    parts = evidence.heat_map("for"), evidence.heat_map("against")
    assert parts[0].min() >= 0 >= parts[1].max()
    np.testing.assert_allclose(parts[0] + parts[1], heat, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_shares_and_bias_make_the_score(kind: str) -> None:
    n_found = 0
    for seed in range(3):
        detector, image = random_detector(seed, **KINDS[kind]), random_image(seed)
        found = detector.detect(image)
        n_found += len(found)
        for evidence, label, score, box in zip(
            detector.explain(image, found), found.labels, found.scores, found.boxes, strict=True
        ):
            check(evidence, float(score))
            assert evidence.class_name == NAMES[label]
            assert evidence.box.tolist() == box.tolist()
            assert len(evidence.looks) == {"refined": 3, "mirrored": 6}.get(kind, 1)
    assert n_found > 10


def test_the_evidence_of_an_ensemble_is_that_of_the_model_that_found_the_box() -> None:
    models = [random_detector(seed, **KINDS["mirrored"]) for seed in (1, 2)]
    ensemble, image = Ensemble(models), random_image()
    found = ensemble.detect(image)
    evidence = ensemble.explain(image, found)
    assert {each.model for each in evidence} == {0, 1}
    for each, score in zip(evidence, found.scores, strict=True):
        check(each, float(score))
    with pytest.raises(ValueError, match="detections must be those of this detector in this image"):
        models[0].explain(image, found)
