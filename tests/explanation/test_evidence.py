"""Evidence adds up to the score, in every kind of model, and lies where the features came from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.backbones.tracing import Geometry
from detector.boxes import as_boxes, flip
from detector.detections import Detections
from detector.ensemble import Ensemble, load_ensemble
from detector.explanation.attribution import Evidence
from detector.explanation.explainer import Explainer
from detector.features.encoder import RegionEncoder
from detector.heads.fully_connected import FullyConnected, Softmax
from detector.heads.linear import LinearSVMs
from detector.pipeline import Detector
from tests.explanation.models import KINDS, NAMES, random_detector, random_image
from tests.fakes import FakeNetwork, colored, fake_detector


def check(evidence: Evidence, score: float, precision: str = "float32") -> None:
    assert evidence.score == pytest.approx(score, abs=1e-6)
    # bfloat16 has 8 bits: values between fully connected layers are rounded by up to a part in 512
    assert abs(evidence.rounding) < (1e-4 if precision == "float32" else 2e-2)
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


class FixedMap(FakeNetwork):
    """A fake network that sees the same 2 x 2 cells of two channels in every image of 20 x 20."""

    channels = 2
    geometry = Geometry(stride=10, offset=4.5, receptive_field=10)

    def __call__(self, image: NDArray[np.uint8]) -> torch.Tensor:
        return torch.tensor([[[1.0, 2], [3, 4]], [[5, 0], [0, 0]]])


def fixed(levels: tuple[int, ...], weights: list[float]) -> Detector:
    backbone: Any = FixedMap()
    scorer = LinearSVMs(np.array(weights, np.float32)[:, None], np.array([0.25], np.float32))
    return Detector(lambda image: WHOLE, RegionEncoder(backbone, (20,), levels), scorer, None, ("thing",))


WHOLE = as_boxes([[0, 0, 20, 20]])
BLACK = np.zeros((20, 20, 3), np.uint8)


def test_one_bin_of_two_channels_by_hand() -> None:
    # channel 0 is largest, 4, in the last cell, and channel 1, 5, in the first
    detector = fixed((1,), [0.5, -1])
    found = detector.detect(BLACK, min_score=-10)
    assert found.scores.tolist() == [-2.75]
    (evidence,) = detector.explain(BLACK, found)
    assert evidence.bias == 0.25
    assert evidence.levels[1].tolist() == [[0.5 * 4 - 5]]
    assert evidence.to_record() == {"bias": 0.25, "levels": {"1": [[-3.0]]}}
    (look,) = evidence.looks
    assert look.shares.tolist() == [[-5, 0], [0, 2]]
    assert (look.short_side, look.zoom, look.cells.tolist(), look.score) == (20, 1.0, [0, 0, 2, 2], -2.75)
    expected = np.zeros((20, 20))
    expected[:10, :10], expected[10:, 10:] = -0.05, 0.02
    np.testing.assert_allclose(evidence.heat_map(), expected, rtol=1e-6)
    assert evidence.heat_map("for").sum() == pytest.approx(2)
    assert evidence.heat_map("against").sum() == pytest.approx(-5)


def test_bins_of_a_level_lie_as_in_the_image() -> None:
    # of 2 x 2 bins, rows before columns, channel 0 alone, each times 10, 100, 1000, 10000
    detector = fixed((2, 1), [10, 0, 100, 0, 1000, 0, 10000, 0, 0, 1])
    (evidence,) = detector.explain(BLACK, detector.detect(BLACK))
    assert evidence.levels[2].tolist() == [[10, 200], [3000, 40000]]
    assert evidence.levels[1].tolist() == [[5]]
    assert evidence.looks[0].shares.tolist() == [[10 + 5, 200], [3000, 40000]]


def test_looks_at_the_mirror_image_are_turned_back() -> None:
    """An image and its mirror image have evidence that mirrors each other."""
    detector, image = random_detector(4, **KINDS["mirrored"]), random_image(4)
    turned = replace(detector, propose=lambda image: flip(detector.propose(image), 180))
    found, other = detector.detect(image), turned.detect(np.ascontiguousarray(image[:, ::-1]))
    np.testing.assert_allclose(other.scores, found.scores, atol=1e-5)
    for here, there in zip(
        detector.explain(image, found), turned.explain(np.ascontiguousarray(image[:, ::-1]), other), strict=True
    ):
        for level, grid in here.levels.items():
            np.testing.assert_allclose(there.levels[level], grid[:, ::-1], atol=1e-4)
        np.testing.assert_allclose(there.heat_map(), here.heat_map()[:, ::-1], atol=1e-4)


@given(st.integers(0, 99))
def test_log_odds_are_split_by_their_gradient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    softmax = Softmax(rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32))
    features = rng.normal(size=(3, 5)).astype(np.float32)
    labels = np.array([0, 1, 2])
    weights, constants = softmax.affine_at(features, labels)
    scores = softmax.decision_function(features)[labels, labels]
    np.testing.assert_allclose((features * weights).sum(1) + constants, scores, atol=1e-4)
    step = np.float32(1e-2)
    for column in range(5):
        aside = step * np.eye(5, dtype=np.float32)[column]
        after, before = (softmax.decision_function(features + way * aside)[labels, labels] for way in (1, -1))
        np.testing.assert_allclose((after - before) / (2 * step), weights[:, column], atol=1e-3)


def test_rounding_in_half_precision_is_told_apart() -> None:
    detector, image = random_detector(2, **KINDS["fc7 next to pooled"]), random_image(2)
    layers = detector.layers
    assert layers is not None
    rounded = FullyConnected(layers.weights, layers.biases, "bfloat16", beside_inputs=True)
    detector = replace(detector, layers=rounded)
    found = detector.detect(image)
    evidence = detector.explain(image, found)
    assert len(found) > 5
    for each, score in zip(evidence, found.scores, strict=True):
        shares = sum(grid.sum() for grid in each.levels.values())
        assert each.bias + shares == pytest.approx(float(score), abs=1e-6)
    assert 1e-4 < max(abs(each.rounding) for each in evidence) < 0.05


def test_nothing_found_has_no_evidence() -> None:
    assert fake_detector().explain(colored(), Detections.empty(("red",))) == []
    nothing = fake_detector(propose=lambda image: as_boxes([]))
    assert nothing.explain(colored(), nothing.detect(colored())) == []


def test_detections_of_others_are_refused() -> None:
    detector = fake_detector()
    found = detector.detect(colored())
    wrong = replace(found, scores=found.scores + 1)
    with pytest.raises(ValueError, match=r"it finds no red of 151.000 at \[0.0, 0.0, 64.0, 64.0\]"):
        detector.explain(colored(), wrong)
    with pytest.raises(ValueError, match="it finds no blue"):
        detector.explain(colored(), replace(found, class_names=("blue", "green")))


def test_the_default_model_explains_the_cat(cat: NDArray[np.uint8]) -> None:
    ensemble = load_ensemble()
    explainer = Explainer(ensemble.detectors, cat)
    found = explainer.detect(min_score=0.0)
    (first, *_) = explainer.explain(found)
    check(first, float(found.scores[0]), ensemble.detectors[0].encoder.backbone.precision)
    assert first.class_name == "cat"
    assert list(first.levels) == [6, 3, 2, 1]
    # the box is most of the image, and what speaks for it lies inside, but for the rim of its outer cells
    x1, y1, x2, y2 = np.rint(found.boxes[0]).astype(int)
    heat = first.heat_map("for")
    assert heat[max(y1 - 20, 0) : y2 + 20, max(x1 - 20, 0) : x2 + 20].sum() > 0.95 * heat.sum()
