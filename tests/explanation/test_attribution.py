"""Attributions add up to the score in every kind of model, and lie where the features came from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.backbones.geometry import Geometry
from detector.boxes import as_boxes
from detector.detections import Detections
from detector.ensemble import Ensemble, load_ensemble
from detector.explanation.attribution import Attribution
from detector.explanation.explainer import Explainer, explain, nearest_score
from detector.features.encoder import RegionEncoder
from detector.heads.calibration import PRECISIONS, Calibration
from detector.heads.fully_connected import FullyConnected, Softmax
from detector.heads.heads import Heads
from detector.heads.linear import LinearSVMs
from detector.heads.refinement import RefinedBoxes
from detector.images.files import write_image
from detector.pipeline import Detector
from tests.explanation.models import KINDS, NAMES, random_detector, random_image
from tests.fakes import FakeNetwork, colored, fake_detector, with_heads


def check(attribution: Attribution, score: float, precision: str = "float32") -> None:
    assert attribution.score == pytest.approx(score, abs=1e-6)
    # bfloat16 has 8 bits: values between fully connected layers are rounded by up to a part in 512
    assert abs(attribution.rounding) < (1e-4 if precision == "float32" else 2e-2)
    total = sum(grid.sum() for grid in attribution.levels.values())
    assert attribution.bias + total == pytest.approx(score, abs=1e-6)
    record = attribution.to_record()
    assert record["bias"] + sum(map(np.sum, record["levels"].values())) == pytest.approx(score, abs=1e-3)
    heat = attribution.heat_map()
    assert heat.shape == attribution.image_size
    assert heat.dtype == np.float32
    assert heat.sum(dtype=np.float64) == pytest.approx(total, abs=1e-3)
    parts = attribution.heat_map("for"), attribution.heat_map("against")
    assert parts[0].min() >= 0 >= parts[1].max()
    np.testing.assert_allclose(parts[0] + parts[1], heat, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_attributions_and_bias_add_up_to_the_score(kind: str) -> None:
    n_found = 0
    for seed in range(3):
        detector, image = random_detector(seed, **KINDS[kind]), random_image(seed)
        found = detector.detect(image, min_score=-0.5)
        n_found += len(found)
        for attribution, label, score, box in zip(
            explain(detector, image, found), found.labels, found.scores, found.boxes, strict=True
        ):
            check(attribution, float(score))
            assert attribution.class_name == NAMES[label]
            assert attribution.box.tolist() == box.tolist()
            assert len(attribution.positions) == (3 if "refined" in kind else 1)
    assert n_found > 10


def test_an_ensemble_attributes_to_the_model_that_found_the_box() -> None:
    models = [random_detector(seed, **KINDS["refined fc7"]) for seed in (1, 2)]
    ensemble, image = Ensemble(models), random_image()
    found = ensemble.detect(image)
    attribution = explain(ensemble, image, found)
    assert {each.model for each in attribution} == {0, 1}
    for each, score in zip(attribution, found.scores, strict=True):
        check(each, float(score))
    with pytest.raises(ValueError, match="detections must be those of this model in this image"):
        explain(models[0], image, found)


class FixedMap(FakeNetwork):
    """A fake network that sees the same 2 x 2 cells of two channels in every image of 20 x 20."""

    channels = 2
    geometry = Geometry(stride=10, offset=4.5, receptive_field=10)

    def __call__(self, image: NDArray[np.uint8]) -> torch.Tensor:
        return torch.tensor([[[1.0, 2], [3, 4]], [[5, 0], [0, 0]]])


def fixed(levels: tuple[int, ...], weights: list[float]) -> Detector:
    backbone: Any = FixedMap()
    scorer = LinearSVMs(np.array(weights, np.float32)[:, None], np.array([0.25], np.float32))
    return Detector(lambda image: WHOLE, RegionEncoder(backbone, (20,), levels), Heads(scorer), ("thing",))


WHOLE = as_boxes([[0, 0, 20, 20]])
BLACK = np.zeros((20, 20, 3), np.uint8)


def test_one_bin_of_two_channels_by_hand() -> None:
    # channel 0 is largest, 4, in the last cell, and channel 1, 5, in the first
    detector = fixed((1,), [0.5, -1])
    found = detector.detect(BLACK, min_score=-10)
    assert found.scores.tolist() == [-2.75]
    (attribution,) = explain(detector, BLACK, found)
    assert attribution.bias == 0.25
    assert attribution.levels[1].tolist() == [[0.5 * 4 - 5]]
    assert attribution.to_record() == {"bias": 0.25, "levels": {"1": [[-3.0]]}}
    (position,) = attribution.positions
    assert position.cell_values.tolist() == [[-5, 0], [0, 2]]
    assert (position.short_side, position.zoom, position.cells.tolist(), position.score) == (
        20,
        1.0,
        [0, 0, 2, 2],
        -2.75,
    )
    expected = np.zeros((20, 20))
    expected[:10, :10], expected[10:, 10:] = -0.05, 0.02
    np.testing.assert_allclose(attribution.heat_map(), expected, rtol=1e-6)
    assert attribution.heat_map("for").sum() == pytest.approx(2)
    assert attribution.heat_map("against").sum() == pytest.approx(-5)


def test_bins_of_a_level_lie_as_in_the_image() -> None:
    # of 2 x 2 bins, rows before columns, channel 0 alone, each times 10, 100, 1000, 10000
    detector = fixed((2, 1), [10, 0, 100, 0, 1000, 0, 10000, 0, 0, 1])
    (attribution,) = explain(detector, BLACK, detector.detect(BLACK))
    assert attribution.levels[2].tolist() == [[10, 200], [3000, 40000]]
    assert attribution.levels[1].tolist() == [[5]]
    assert attribution.positions[0].cell_values.tolist() == [[10 + 5, 200], [3000, 40000]]


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


def test_rounding_in_half_precision_is_reported() -> None:
    detector, image = random_detector(2, **KINDS["fc7"]), random_image(2)
    layers = detector.heads.layers
    assert layers is not None
    rounded = FullyConnected(layers.weights, layers.biases, "bfloat16")
    detector = with_heads(detector, layers=rounded)
    found = detector.detect(image)
    attribution = explain(detector, image, found)
    assert len(found) > 5
    for each, score in zip(attribution, found.scores, strict=True):
        total = sum(grid.sum() for grid in each.levels.values())
        assert each.bias + total == pytest.approx(float(score), abs=1e-6)
    assert 1e-4 < max(abs(each.rounding) for each in attribution) < 0.05


def test_boxes_below_the_recipes_score_are_explained_as_proposed() -> None:
    model, image = random_detector(3, move=True, box_refinements=2, min_score=2.0), random_image(3)
    found = model.detect(image, min_score=-20)
    below = found[found.scores < model.config.detection.min_score]
    assert len(below) > 3
    for each, attribution in zip(below, explain(model, image, below), strict=True):
        total = sum(grid.sum() for grid in attribution.levels.values())
        assert attribution.bias + total == pytest.approx(each.score, abs=1e-5)
    assert min(len(attribution.positions) for attribution in explain(model, image, below)) == 1


def test_an_attribution_is_of_what_is_shown_and_has_its_probability(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", colored())
    precisions = np.zeros((PRECISIONS, 2), np.float32)
    learned = np.full(2, 0.01, np.float32), np.zeros(2, np.float32)
    calibration = Calibration(*learned, np.array([120, -80], np.float32), precisions)
    (red, green) = explain(with_heads(fake_detector(), calibration=calibration), tmp_path / "a.png")
    assert (red.class_name, green.class_name) == ("red", "green")
    assert (red.probability, green.probability) == pytest.approx((1 / (1 + np.exp(-1.5)), 1 / (1 + np.exp(-1))))
    assert repr(red) == "Attribution(red 82 % at 0 0 64 64: score 150.00 = bias -100.00 + cells 250.00)"
    assert repr(explain(fake_detector(), colored())[0]).startswith("Attribution(red 150.00 at ")


def test_no_detections_have_no_attributions() -> None:
    assert explain(fake_detector(), colored(), Detections.empty(("red",))) == []
    nothing = fake_detector(propose=lambda image: as_boxes([]))
    assert explain(nothing, colored(), nothing.detect(colored())) == []


def test_detections_of_others_are_refused() -> None:
    detector = fake_detector()
    found = detector.detect(colored())
    wrong = replace(found, scores=found.scores + 1)
    with pytest.raises(ValueError, match=r"it finds no red of 151.000 at \[0.0, 0.0, 64.0, 64.0\]"):
        explain(detector, colored(), wrong)
    with pytest.raises(ValueError, match="it finds no blue"):
        explain(detector, colored(), replace(found, class_names=("blue", "green")))


def test_the_default_model_explains_the_cat(cat: NDArray[np.uint8]) -> None:
    ensemble = load_ensemble()
    explainer = Explainer(ensemble, cat)
    found = explainer.detect(ensemble.thresholds(min_score=0.0))
    (first, *_) = explainer.explain(found)
    check(first, float(found.scores[0]), ensemble.detectors[0].encoder.backbone.precision)
    assert first.class_name == "cat"
    assert list(first.levels) == [6, 3, 2, 1]
    # the box is most of the image, and what speaks for it lies inside, but for the rim of its outer cells
    x1, y1, x2, y2 = np.rint(found.boxes[0]).astype(int)
    heat = first.heat_map("for")
    assert heat[max(y1 - 20, 0) : y2 + 20, max(x1 - 20, 0) : x2 + 20].sum() > 0.95 * heat.sum()


def refined(boxes: Any, scores: Any) -> RefinedBoxes:
    made = as_boxes(boxes)
    return RefinedBoxes(made, np.array(scores, np.float32), [made, made + 1])


def test_the_nearest_score_counts_and_ties_take_the_highest_iou() -> None:
    asked = as_boxes([[0, 0, 10, 10]])[0]
    made = refined([[0, 0, 10, 9], [0, 0, 10, 5], [40, 40, 50, 50], [0, 0, 10, 8]], [1.0, 2.0, 1.5, 2.000001])
    distance, positions = nearest_score(made, 2.0, asked)  # type: ignore[misc]
    # scores that differ by rounding are equal: the last box overlaps more than the second
    assert distance == pytest.approx(0, abs=1e-5)
    assert positions.tolist() == [[0, 0, 10, 8], [1, 1, 11, 9]]
    distance, positions = nearest_score(made, 1.4, asked)  # type: ignore[misc]
    # a box that does not overlap is no candidate, however near its score
    assert distance == pytest.approx(0.4)
    assert positions[0].tolist() == [0, 0, 10, 9]
    assert nearest_score(made, 1.0, as_boxes([[90, 90, 99, 99]])[0]) is None
    assert nearest_score(refined(np.zeros((0, 4)), []), 1.0, asked) is None
