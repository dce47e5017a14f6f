"""Who suppressed whom, and which candidate a detection came from, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detector.boxes import as_boxes
from detector.explanation.diagnosis import Candidates, Contest


def scored_boxes(boxes: Any, scores: Any) -> Candidates:
    made = as_boxes(boxes)
    return Candidates(made, np.stack([made, made + 1], axis=1), made, np.array(scores, np.float32))


def test_the_nearest_score_counts_and_of_equal_ones_the_largest_overlap() -> None:
    asked = as_boxes([[0, 0, 10, 10]])[0]
    made = scored_boxes([[0, 0, 10, 9], [0, 0, 10, 5], [40, 40, 50, 50], [0, 0, 10, 8]], [1.0, 2.0, 1.5, 2.000001])
    distance, positions = made.nearest(2.0, asked)  # type: ignore[misc]
    # scores that differ by rounding are equal: the last one overlaps more than the second
    assert distance == pytest.approx(0, abs=1e-5)
    assert positions.tolist() == [[0, 0, 10, 8], [1, 1, 11, 9]]
    distance, positions = made.nearest(1.4, asked)  # type: ignore[misc]
    # what does not overlap is no candidate, however near its score
    assert distance == pytest.approx(0.4)
    assert positions[0].tolist() == [0, 0, 10, 9]
    assert made.nearest(1.0, as_boxes([[90, 90, 99, 99]])[0]) is None
    assert scored_boxes(np.zeros((0, 4)), []).nearest(1.0, asked) is None


def contest(proposals: Any, boxes: Any, scores: Any, **changes: Any) -> Contest:
    first = as_boxes(proposals)
    settings: dict[str, Any] = {
        "models": np.zeros(len(first), np.int64),
        "running": np.ones(len(first), bool),
        "early": [None],
        "nms_iou": 0.3,
        "min_score": 0.0,
        **changes,
    }
    values = np.array(scores, np.float32)
    return Contest(proposals=first, first_scores=values, boxes=as_boxes(boxes), scores=values, **settings)


A, NEAR, FAR = [0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]


def test_a_rival_is_the_stronger_survivor_that_overlaps_most() -> None:
    made = contest([A, NEAR, FAR], [A, NEAR, FAR], [2.0, 1.0, 3.0])
    box, score, overlap = made.rival(1)  # type: ignore[misc]
    assert (box.tolist(), score) == (A, 2.0)
    assert overlap == pytest.approx(0.8)
    assert made.rival(0) is None and made.rival(2) is None
    # none is suppressed by one that was suppressed itself
    chain = contest([A, NEAR, FAR], [[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], [3.0, 2.0, 1.0])
    assert chain.rival(1) is not None
    assert chain.rival(2) is None
    loose = contest([A, NEAR, FAR], [A, NEAR, FAR], [2.0, 1.0, 3.0], nms_iou=0.8)
    assert loose.rival(1) is None


def test_what_was_not_looked_at_further_and_what_left_the_image_have_no_rival() -> None:
    out = contest([A, NEAR], [A, NEAR], [2.0, 1.0], running=np.array([True, False]))
    assert out.rival(1) is None
    gone = contest([A, NEAR], [A, [0, 0, 0, 8]], [2.0, 1.0])
    assert gone.rival(1) is None
    assert contest([A, NEAR], [A, NEAR], [2.0, 1.0], running=np.array([False, True])).rival(1) is None


def test_where_proposals_are_suppressed_before_they_move_they_meet_where_they_were() -> None:
    # they overlap before and are moved apart, or the other way round
    apart = contest([A, NEAR], [A, FAR], [2.0, 1.0], early=[0.5])
    box, _, overlap = apart.rival(1)  # type: ignore[misc]
    assert (box.tolist(), overlap) == (A, pytest.approx(0.8))
    assert contest([A, NEAR], [A, FAR], [2.0, 1.0], early=[0.9]).rival(1) is None
    together = contest([A, FAR], [A, NEAR], [2.0, 1.0], early=[0.5])
    assert together.rival(1)[2] == pytest.approx(0.8)  # type: ignore[index]
    # what was suppressed early suppresses nothing later
    third = contest([A, NEAR, FAR], [FAR, [20, 20, 30, 30], [20, 20, 30, 29]], [3.0, 2.0, 1.0], early=[0.5])
    assert third.rival(2) is None


def test_models_suppress_their_own_proposals_first_and_all_boxes_later() -> None:
    models = np.array([0, 1])
    both = contest([A, NEAR], [A, NEAR], [2.0, 1.0], models=models, early=[0.5, 0.5])
    assert both.rival(1)[1] == 2.0  # type: ignore[index]
    moved = contest([A, NEAR], [A, FAR], [2.0, 1.0], models=models, early=[0.5, 0.5])
    assert moved.rival(1) is None, "proposals of two models do not meet"
    own = contest([A, NEAR, NEAR], [A, FAR, FAR], [1.0, 3.0, 2.0], models=np.array([0, 1, 1]), early=[None, 0.5])
    assert own.rival(2)[1] == 3.0  # type: ignore[index]
