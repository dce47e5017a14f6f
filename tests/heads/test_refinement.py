"""Boxes refined and scored again, and box voting, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.boxes import as_boxes
from detector.config.detector import parse_config
from detector.detections import Detections
from detector.features.encoder import RegionEncoder
from detector.heads.refinement import vote
from detector.pipeline import Detector
from tests.fakes import NAMES, colored, fake_detector, with_heads


def refining(move: float, **detection: Any) -> Detector:
    config = parse_config({"detection": {"box_refinements": 1, "min_score": 0.0, **detection}}, "test")
    return replace(fake_detector(move=move), config=config)


def refined(move: float, rounds: int, boxes: Sequence[Sequence[float]], min_score: float = 0.0) -> Detections:
    detector = fake_detector(move=move).with_detection(box_refinements=rounds, min_score=min_score)
    return detector.scored_boxes(detector.encoder.maps(colored()), as_boxes(boxes), min_score).refined


def test_boxes_move_and_scores_are_means_over_the_positions() -> None:
    # half on the red square of 250; a width to the right all is black, where red scores -100
    found = refined(move=1.0, rounds=1, boxes=[[32, 0, 80, 64]])
    assert found.boxes.tolist() == [[80, 0, 128, 64]]
    assert found.scores.tolist() == [(150 - 100) / 2]
    # to the left: 16 px, then 16 px more
    found = refined(move=-0.25, rounds=2, boxes=[[36, 0, 100, 64]])
    assert found.boxes.tolist() == [[4, 0, 68, 64]]
    assert found.scores.tolist() == [150]


def test_second_regressors_move_boxes_that_moved_and_once_more_at_the_end() -> None:
    detector = fake_detector(move=-0.25)
    (first,) = detector.heads.regressors
    shift = np.array([[-0.125, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    regressors = [first, replace(first, biases=shift)]
    maps = detector.encoder.maps(colored())
    for rounds, left in ((1, 12), (2, 4)):
        cascade = with_heads(detector, regressors=regressors).with_detection(box_refinements=rounds, min_score=0.0)
        # 16 px to the left, then 8 px in each round, and 8 px at the end, where the box is not scored
        found = cascade.scored_boxes(maps, as_boxes([[36, 0, 100, 64]]), 0.0).refined
        assert found.boxes.tolist() == [[left, 0, left + 64, 64]]
        assert found.scores.tolist() == [150]


def test_every_class_above_the_threshold_is_a_candidate() -> None:
    both = [[32, 0, 160, 64]]  # on both squares; green, 200, does not move
    found = refined(move=-0.25, rounds=1, boxes=both)
    assert [NAMES[label] for label in found.labels] == ["red", "green"]
    assert found.boxes.tolist() == [[0, 0, 128, 64], [32, 0, 160, 64]]
    assert [NAMES[label] for label in refined(-0.25, 1, both, min_score=120).labels] == ["red"]
    assert len(refined(-0.25, 1, both, min_score=1000)) == 0


def test_boxes_that_leave_the_image_are_dropped() -> None:
    assert len(refined(move=-5.0, rounds=2, boxes=[[0, 0, 32, 64]])) == 0


def test_votes_weigh_as_the_square_of_the_margin() -> None:
    candidates = Detections(
        as_boxes([[0, 0, 10, 10], [2, 0, 12, 10], [0, 8, 10, 18], [1, 0, 11, 10]]),
        np.array([0, 0, 0, 1]),
        np.array([2.0, 1.0, 1.5, 3.0], np.float32),
        NAMES,
    )
    survivors = replace(candidates, boxes=candidates.boxes[[1]], labels=np.array([0]), scores=candidates.scores[[1]])
    # weights 9 and 4 above -1; the third overlaps too little, the fourth is of another class
    voted = vote(survivors, candidates, min_iou=0.5, min_score=-1.0)
    np.testing.assert_allclose(voted.boxes, [[8 / 13, 0, 10 + 8 / 13, 10]], rtol=1e-6)
    assert voted.scores.tolist() == [2.0]
    alone = vote(survivors, candidates, min_iou=0.9, min_score=-1.0)
    assert alone.boxes.tolist() == survivors.boxes.tolist()
    assert len(vote(Detections.empty(NAMES), candidates, 0.5, -1.0)) == 0


def test_the_detector_refines_when_its_recipe_says_so() -> None:
    found = refining(move=-0.25).detect(colored())
    # [0, 0, 64, 64] and [4, 0, 68, 64] end at widths 48 and 52; green stays
    assert [NAMES[label] for label in found.labels] == ["red", "green"]
    assert 48 < found.boxes[0, 2] < 52
    assert found.boxes[1].tolist() == [96, 0, 160, 64]
    assert len(refining(move=-0.25).detect(colored(), min_score=120)) == 1
    assert len(refining(move=-0.25).detect(colored(), max_detections=1)) == 1
    assert len(refining(move=-0.25).detect(np.zeros((160, 160, 3), np.uint8))) == 0


def test_boxes_may_move_to_a_scale_that_no_proposal_needed() -> None:
    detector = refining(move=-0.25)
    (regressors,) = detector.heads.regressors
    widths = np.array([[0, 0, np.log(0.1), np.log(0.1)], [0, 0, 0, 0]], np.float32)
    shrinking = replace(regressors, biases=widths)
    assert isinstance(detector.encoder, RegionEncoder)
    encoder = replace(detector.encoder, short_sides=(160, 1600), target=160.0)
    found = replace(with_heads(detector, regressors=[shrinking]), encoder=encoder).detect(
        colored(), as_boxes([[0, 0, 160, 160]])
    )
    # a tenth of the box is black, where red scores -100; at 1600 it would be read from, but that was not computed
    assert [NAMES[label] for label in found.labels] == ["green", "red"]
    np.testing.assert_allclose(found.scores, [100, (150 - 100) / 2])
    np.testing.assert_allclose(found.boxes[1], [72, 72, 88, 88], atol=1e-4)


@pytest.mark.parametrize("name", ["box_refinements", "vote_iou"])
def test_settings_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=f"detection.{name}"):
        parse_config({"detection": {name: -1}}, "test")
