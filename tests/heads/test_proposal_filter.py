"""The first, cheap score: which boxes it keeps, what a detector does with it, and what it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from detector.boxes import as_boxes
from detector.config.detector import ProposalFilterConfig, parse_config
from detector.datasets.dataset import Dataset
from detector.heads.heads import Heads
from detector.heads.proposal_filter import ProposalFilter
from detector.pipeline import Detector
from detector.training.proposal_filter import train_proposal_filter
from detector.training.sampling import sample_boxes
from detector.training.train import train
from detector.training.training_set import TrainingSet
from tests.fakes import CONFIG, colored, fake_detector, with_heads

GREEN = ProposalFilter(np.array([[0, -1], [1, 0], [0, 0]], np.float32), np.array([0, -1], np.float32), (1,))
"""Ranks what is green anywhere in a box first, by the first class, and then what is not red, by the second."""
BOXES = as_boxes([[0, 0, 64, 64], [0, 96, 160, 160], [96, 0, 160, 64], [32, 0, 160, 64]])


def shortening(max_boxes: int | None, proposal_filter: ProposalFilter | None = GREEN) -> Detector:
    detector = with_heads(fake_detector(), proposal_filter=proposal_filter)
    return detector.with_detection(max_boxes=max_boxes)


def test_the_best_are_kept_in_their_order_and_of_equals_the_first() -> None:
    detector = shortening(None)
    maps = detector.encoder.maps(colored())
    scores = GREEN.scores(detector.encoder, maps, BOXES)
    # red 250 without green; black; green 200, alone and next to red: max(green, -red - 1) by hand
    np.testing.assert_allclose(scores, [0, 0, 200, 200], atol=1e-4)
    for count, expected in ((1, [2]), (2, [2, 3]), (3, [0, 2, 3]), (9, [0, 1, 2, 3])):
        assert GREEN.choose(detector.encoder, maps, BOXES, count).tolist() == expected


@pytest.mark.parametrize("max_boxes", [None, 1, 2, 4])
def test_a_detector_scores_the_proposal_filter_alone(max_boxes: int | None) -> None:
    detector = shortening(max_boxes)
    kept = BOXES if max_boxes is None else BOXES[{1: [2], 2: [2, 3], 4: [0, 1, 2, 3]}[max_boxes]]
    found = detector.detect(colored(), BOXES)
    expected = shortening(None, None).detect(colored(), kept)
    assert found.boxes.tolist() == expected.boxes.tolist()
    assert found.scores.tolist() == expected.scores.tolist()


def test_without_a_proposal_filter_the_first_proposals_are_scored() -> None:
    found = shortening(1, None).detect(colored(), BOXES)
    assert found.boxes.tolist() == shortening(None, None).detect(colored(), BOXES[:1]).boxes.tolist()
    assert len(found) == 1


def test_the_proposal_filter_is_kept_in_the_arrays_of_the_heads() -> None:
    heads = shortening(None).heads
    again = Heads.from_arrays(heads.to_arrays(), proposal_filter_levels=(1,)).proposal_filter
    assert again is not None
    assert again.weights.tolist() == GREEN.weights.tolist()
    assert again.biases.tolist() == GREEN.biases.tolist()
    assert again.levels == (1,)
    assert Heads.from_arrays(shortening(None, None).heads.to_arrays()).proposal_filter is None
    with pytest.raises(ValueError, match=r"must be \(D, K\) and \(K,\)"):
        replace(GREEN, biases=np.zeros(3, np.float32))


@pytest.mark.parametrize("levels", [(2, 1), (1,)])
def test_what_is_learned_is_a_ridge_regression(images: TrainingSet, levels: tuple[int, ...]) -> None:
    config = ProposalFilterConfig(enabled=True, levels=levels, boxes=40, regularization=0.1, seed=5)
    learned = train_proposal_filter(images, config)
    encoder = images.cache.encoder.with_levels(levels)
    features, targets = [], []
    for index, annotation in enumerate(images.annotations):
        boxes, overlaps = images.labeled_boxes(index)
        random = np.random.default_rng((5, index))
        rows, labels = sample_boxes(overlaps, annotation.labels, images.n_classes, 40, random, background_iou=(0, 0.5))
        maps = images.cache.maps(annotation.image_id, annotation.path)
        features.append(encoder.pool(maps, encoder.regions(maps, boxes[rows])))
        targets.append((labels[:, None] == np.arange(images.n_classes)).astype(np.float64))
    samples = np.concatenate(features).astype(np.float64)
    penalty = 0.1 * samples.var(0).mean() * len(samples)
    ridge = Ridge(penalty).fit(samples, np.concatenate(targets))
    np.testing.assert_allclose(learned.weights, ridge.coef_.T, rtol=1e-2, atol=1e-4 * abs(ridge.coef_).max())
    np.testing.assert_allclose(learned.biases, ridge.intercept_, rtol=1e-2, atol=1e-3)


def test_it_needs_a_box(images: TrainingSet) -> None:
    with pytest.raises(ValueError, match="no boxes"):
        train_proposal_filter(replace(images, annotations=[]), ProposalFilterConfig())


def test_a_training_gives_a_detector_its_proposal_filter(
    images: TrainingSet, train_set: Dataset, tmp_path: Path
) -> None:
    proposal_filter = {"enabled": True, "levels": [1], "boxes": 20}
    config = parse_config({**CONFIG, "proposal_filter": proposal_filter, "detection": {"max_boxes": 25}}, "test")
    trained = train(config, train_set, train_set.class_names, images.cache)
    assert trained.heads.proposal_filter is not None
    expected = train_proposal_filter(replace(images, annotations=train_set.annotations), config.proposal_filter)
    np.testing.assert_array_equal(trained.heads.proposal_filter.weights, expected.weights)
    trained.save(tmp_path / "model.safetensors")
    again = Detector.load(tmp_path / "model.safetensors")
    boxes = [each.cached_inputs(images.cache, train_set[0])[1] for each in (trained, again)]
    assert len(boxes[0]) == 25
    assert boxes[0].tolist() == boxes[1].tolist()
    assert boxes[0].tolist() != images.cache.proposals(train_set[0].image_id, train_set[0].path)[:25].tolist()
