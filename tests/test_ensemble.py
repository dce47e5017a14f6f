"""Detectors together: union of their candidates, one suppression, classes by name."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.build import build_encoder
from detector.config.detector import parse_config
from detector.datasets.dataset import Dataset
from detector.ensemble import Ensemble
from detector.heads.fully_connected import Softmax
from detector.heads.heads import Heads
from detector.heads.linear import LinearSVMs
from detector.images.files import write_image
from detector.pipeline import Detector
from detector.scoring import detect_in_image
from tests.composites import calibration
from tests.fakes import NAMES, PROPOSALS, colored, fake_detector, with_heads
from tests.scripts import spp


def seeing(color: int, names: tuple[str, ...], gain: float = 1.0) -> Detector:
    """A detector of one class: brightness of a color, times gain, less 100."""
    weights = np.zeros((3, 1), np.float32)
    weights[color] = gain
    heads = Heads(LinearSVMs(weights, np.full(1, -100, np.float32)))
    return replace(fake_detector(), heads=heads, class_names=names)


def test_one_detector_is_what_it_is_alone() -> None:
    for detector in (fake_detector(), fake_detector(move=0.1)):
        alone, together = detector.detect(colored()), Ensemble([detector]).detect(colored())
        np.testing.assert_array_equal(together.boxes, alone.boxes)
        np.testing.assert_array_equal(together.scores, alone.scores)
        np.testing.assert_array_equal(together.labels, alone.labels)


def test_the_better_score_suppresses_what_the_other_found() -> None:
    shifted = as_boxes([[6, 0, 70, 64]])
    second = replace(seeing(0, ("red",), gain=0.9), propose=lambda image: shifted)
    second = replace(second, config=parse_config({"proposals": {"seed": 1}}, "test"))  # other boxes than the first
    found = Ensemble([fake_detector(), second]).detect(colored())
    assert found.class_names == NAMES
    assert found.boxes.tolist() == [[0, 0, 64, 64], [96, 0, 160, 64]]
    # the other way round, the second one's box of the red square is the better one
    second = with_heads(second, scorer=LinearSVMs(np.array([[2], [0], [0]], np.float32), np.full(1, -100, np.float32)))
    found = Ensemble([fake_detector(), second]).detect(colored())
    assert found.boxes.tolist() == [[6, 0, 70, 64], [96, 0, 160, 64]]


def test_classes_are_matched_by_name() -> None:
    ensemble = Ensemble([seeing(1, ("green",)), seeing(0, ("red",))])
    assert ensemble.class_names == ("green", "red")
    found = ensemble.detect(colored())
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
    Ensemble(detectors).detect(colored())
    assert len(calls) == 1
    Ensemble(detectors).detect(colored(), boxes=PROPOSALS)
    assert len(calls) == 1


def test_detectors_that_propose_otherwise_keep_their_own_boxes() -> None:
    """Also where their recipes are equal: a stage may have been replaced."""

    def propose(_image: NDArray[np.uint8], corners: list[int]) -> Boxes:
        return as_boxes([corners])

    corners = ([0, 0, 64, 64], [96, 0, 160, 64])
    detectors = [replace(seeing(k, (NAMES[k],)), propose=partial(propose, corners=corners[k])) for k in (0, 1)]
    found = Ensemble(detectors).detect(colored())
    assert found.boxes.tolist() == [[0, 0, 64, 64], [96, 0, 160, 64]]


def test_limits_are_those_that_are_asked_for() -> None:
    ensemble = Ensemble([seeing(1, ("green",)), seeing(0, ("red",))])
    assert [ensemble.class_names[label] for label in ensemble.detect(colored(), min_score=120).labels] == ["red"]
    assert len(ensemble.detect(colored(), max_detections=1)) == 1
    assert len(ensemble.detect(colored(), boxes=np.zeros((0, 4), np.float32))) == 0


def test_the_first_recipe_of_a_class_says_its_minimum_score() -> None:
    low, high = (seeing(0, ("red",)).with_detection(min_score=score) for score in (100, 160))
    assert len(detect_in_image([low, high], colored())) == 1
    assert len(detect_in_image([high, low], colored())) == 0


def test_scores_of_two_kinds_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    svms = seeing(0, ("red",))
    softmax = with_heads(svms, scorer=Softmax(np.zeros((3, 2), np.float32), np.zeros(2, np.float32)))
    Ensemble([svms, svms])
    Ensemble([softmax, softmax])
    assert not caplog.text
    Ensemble([svms, softmax])
    assert "combine models of one kind" in caplog.text


def test_what_cannot_be_put_together_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one detector"):
        Ensemble([])


@pytest.mark.all
def test_scripts_take_two_models(detector: Detector, root: Path, test_set: Dataset, tmp_path: Path) -> None:
    """A trained one and one that sees something in every box; an image too narrow for the latter costs one line."""
    # a cache keeps half precision, which holds bfloat16 to the bit; on small networks: few processors are fast at it
    config = parse_config({"features": {"backbone": "zf5/0.1", "weights": "random", "precision": "bfloat16"}}, "test")
    config = config.model_copy(update={"proposals": detector.config.proposals})
    encoder = build_encoder(config.features)
    certain = LinearSVMs(np.zeros((encoder.n_features, 1), np.float32), np.full(1, 2, np.float32))
    detector.save(tmp_path / "a")
    Detector(detector.propose, encoder, Heads(certain), ("thing",), config).save(tmp_path / "b")
    image = test_set[0].path
    rng = np.random.default_rng(0)
    write_image(tmp_path / "narrow.png", rng.integers(0, 256, (20, 2500, 3), np.uint8))
    models = ("--model", "a", "--model", "b")
    done = spp("detect", "narrow.png", image, *models, "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 2
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert error.startswith("error: narrow.png: the network cannot take an image of ")
    (record,) = json.loads((tmp_path / "found.json").read_text())
    labels = {each["label"] for each in record["detections"]}
    assert "thing" in labels
    assert labels & set(detector.class_names)
    for name, class_name in zip("cd", detector.class_names[:2], strict=True):
        weights = rng.normal(0, 0.05, (encoder.n_features, 1)).astype(np.float32)
        svms = LinearSVMs(weights, np.zeros(1, np.float32))
        Detector(detector.propose, encoder, Heads(svms), (class_name,), config).save(tmp_path / name)
    models = ("--model", "c", "--model", "d")
    results = []
    for cached in ((), ("--cache", "cache")):
        data = ("--voc", root, "--split", "test", "--classes", *detector.class_names)
        done = spp("evaluate", *data, *models, *cached, "--save-detections", "found", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        results.append([path.read_bytes() for path in sorted((tmp_path / "found").iterdir())])
    assert results[0] == results[1]


def test_models_of_one_class_together_have_no_probabilities_and_of_different_ones_their_own() -> None:
    red = with_heads(seeing(0, ("red",)), calibration=calibration([0.1], [1]))
    green = with_heads(seeing(1, ("green",)), calibration=calibration([0.2], [-2]))
    twice = Ensemble([red, with_heads(red, calibration=calibration([5.0], [3]))])
    assert twice.calibration is None
    assert twice.detect(colored()).probabilities is None
    with pytest.raises(ValueError, match="min_probability needs one model with a calibration"):
        twice.detect(colored(), min_probability=0.5)
    chances = {"red": 1 / (1 + np.exp(-(0.1 * 150 + 1))), "green": 1 / (1 + np.exp(-(0.2 * 100 - 2)))}
    for models in ([red, green], [green, red]):
        found = Ensemble(models).detect(colored())
        assert {each.class_name: each.probability for each in found} == pytest.approx(chances)
    assert Ensemble([red, seeing(1, ("green",))]).detect(colored()).probabilities is None
