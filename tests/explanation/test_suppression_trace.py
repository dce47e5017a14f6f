"""The box that suppressed each proposal, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.boxes import as_boxes
from detector.ensemble import Ensemble
from detector.explanation.diagnosis import SuppressionTrace
from detector.explanation.explainer import Explainer
from detector.tiles import Window
from tests.fakes import colored, fake_detector


def trace(proposals: Any, boxes: Any, scores: Any, **changes: Any) -> SuppressionTrace:
    first = as_boxes(proposals)
    settings: dict[str, Any] = {
        "models": np.zeros(len(first), np.int64),
        "scored": np.ones(len(first), bool),
        "first_nms_ious": [None],
        "nms_iou": 0.3,
        **changes,
    }
    values = np.array(scores, np.float32)
    return SuppressionTrace(proposals=first, first_scores=values, boxes=as_boxes(boxes), scores=values, **settings)


A, NEAR, FAR = [0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]


def test_a_suppressor_is_the_stronger_survivor_with_the_highest_iou() -> None:
    made = trace([A, NEAR, FAR], [A, NEAR, FAR], [2.0, 1.0, 3.0])
    suppressor = made.suppressor(1)
    assert suppressor is not None
    assert (suppressor.box.tolist(), suppressor.score) == (A, 2.0)
    assert suppressor.iou == pytest.approx(0.8)
    assert made.suppressor(0) is None and made.suppressor(2) is None
    # none is suppressed by one that was suppressed itself
    chain = trace([A, NEAR, FAR], [[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], [3.0, 2.0, 1.0])
    assert chain.suppressor(1) is not None
    assert chain.suppressor(2) is None
    loose = trace([A, NEAR, FAR], [A, NEAR, FAR], [2.0, 1.0, 3.0], nms_iou=0.8)
    assert loose.suppressor(1) is None


def test_boxes_that_were_not_refined_or_left_the_image_have_no_suppressor() -> None:
    out = trace([A, NEAR], [A, NEAR], [2.0, 1.0], scored=np.array([True, False]))
    assert out.suppressor(1) is None
    gone = trace([A, NEAR], [A, [0, 0, 0, 8]], [2.0, 1.0])
    assert gone.suppressor(1) is None
    assert trace([A, NEAR], [A, NEAR], [2.0, 1.0], scored=np.array([False, True])).suppressor(1) is None


def test_proposals_that_are_suppressed_first_meet_where_they_were_proposed() -> None:
    # they overlap as proposed and are refined apart, or the other way round
    apart = trace([A, NEAR], [A, FAR], [2.0, 1.0], first_nms_ious=[0.5])
    suppressor = apart.suppressor(1)
    assert suppressor is not None
    assert suppressor.box.tolist() == A
    assert suppressor.iou == pytest.approx(0.8)
    assert trace([A, NEAR], [A, FAR], [2.0, 1.0], first_nms_ious=[0.9]).suppressor(1) is None
    together = trace([A, FAR], [A, NEAR], [2.0, 1.0], first_nms_ious=[0.5])
    assert together.suppressor(1).iou == pytest.approx(0.8)  # type: ignore[union-attr]
    # a proposal suppressed first suppresses nothing later
    third = trace([A, NEAR, FAR], [FAR, [20, 20, 30, 30], [20, 20, 30, 29]], [3.0, 2.0, 1.0], first_nms_ious=[0.5])
    assert third.suppressor(2) is None


def test_a_detection_has_suppressed_the_weaker_boxes_that_overlap_it() -> None:
    close, low = [0, 0, 10, 9], [0, 0, 10, 2]
    made = trace([A, NEAR, FAR, close, low], [A, NEAR, FAR, close, low], [2.0, 0.5, 3.0, 1.0, 0.8])
    # the detection has moved a little from its box by voting; an IoU of .2 is below .3
    lost = made.suppressed_by(np.array([0, 0, 11, 10], np.float32), 5)
    assert [(each.box.tolist(), each.score) for each in lost] == [(close, 1.0), (NEAR, 0.5)]
    assert [each.iou for each in lost] == pytest.approx([0.9, 0.8])
    assert [each.score for each in made.suppressed_by(np.array(A, np.float32), 1)] == [1.0]
    assert made.suppressed_by(np.array(FAR, np.float32), 5) == []
    unscored = trace([A, NEAR], [A, NEAR], [2.0, 1.0], scored=np.array([True, False]))
    assert unscored.suppressed_by(np.array(A, np.float32), 5) == []
    # a model that suppresses first: where the boxes were proposed
    first = trace([A, NEAR], [A, FAR], [2.0, 1.0], first_nms_ious=[0.5])
    (only,) = first.suppressed_by(np.array(A, np.float32), 5)
    assert (only.box.tolist(), only.score) == (NEAR, 1.0)
    assert trace([A], [A], [1.0], scored=np.array([False])).suppressed_by(np.array(A, np.float32), 5) == []
    assert made.suppressed_by(np.array([80, 80, 90, 90], np.float32), 5) == [], "no survivor is there"
    # it met the winner after box regression alone, as in `suppressor`
    late = trace([A, FAR], [A, NEAR], [2.0, 1.0], first_nms_ious=[0.5])
    assert [each.box.tolist() for each in late.suppressed_by(np.array(A, np.float32), 5)] == [NEAR]


def test_proposals_of_another_model_do_not_lose_before_box_regression() -> None:
    models = np.array([0, 1])
    apart = trace([A, NEAR], [A, FAR], [2.0, 1.0], models=models, first_nms_ious=[0.5, 0.5])
    assert apart.suppressed_by(np.array(A, np.float32), 5) == []
    together = trace([A, NEAR], [A, NEAR], [2.0, 1.0], models=models, first_nms_ious=[0.5, 0.5])
    assert [each.score for each in together.suppressed_by(np.array(A, np.float32), 5)] == [1.0]


def test_models_suppress_their_own_proposals_first_and_all_boxes_later() -> None:
    models = np.array([0, 1])
    both = trace([A, NEAR], [A, NEAR], [2.0, 1.0], models=models, first_nms_ious=[0.5, 0.5])
    assert both.suppressor(1).score == 2.0  # type: ignore[union-attr]
    moved = trace([A, NEAR], [A, FAR], [2.0, 1.0], models=models, first_nms_ious=[0.5, 0.5])
    assert moved.suppressor(1) is None, "proposals of two models do not meet"
    own = trace([A, NEAR, NEAR], [A, FAR, FAR], [1.0, 3.0, 2.0], models=np.array([0, 1, 1]), first_nms_ious=[None, 0.5])
    assert own.suppressor(2).score == 3.0  # type: ignore[union-attr]


def test_boxes_that_a_detection_of_a_tile_suppressed_are_those_of_the_tile() -> None:
    """The squares are in the right half of the image, which is a tile."""
    image = np.concatenate([np.zeros_like(colored()), colored()], axis=1)
    explainer = Explainer(Ensemble([fake_detector()]).with_tiles("160x160"), image)
    window = Window(160, 0, 320, 160)
    inside = Explainer(Ensemble([fake_detector()]), colored())
    (found,) = inside.explain(inside.detect(np.array([0.0, 1000.0], np.float32), 100))
    assert [each.box.tolist() for each in inside.suppressed_by(found, 0.0, 5)] == [[4, 0, 68, 64]]
    moved = replace(found, positions=tuple(each.in_window(window) for each in found.positions))
    moved = replace(moved, box=found.box + np.array([160, 0, 160, 0], np.float32))
    assert [each.box.tolist() for each in explainer.suppressed_by(moved, 0.0, 5)] == [[164, 0, 228, 64]]


def test_a_detection_has_not_suppressed_what_was_stronger() -> None:
    # the middle one overlaps both others, and lost against the first
    chain = trace([A, NEAR, FAR], [[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], [3.0, 2.0, 1.0])
    assert chain.suppressed_by(np.array([8, 0, 18, 10], np.float32), 5) == []
    assert [each.score for each in chain.suppressed_by(np.array(A, np.float32), 5)] == [2.0]


def test_each_suppression_has_its_own_limit() -> None:
    made = trace([A, NEAR], [A, FAR], [2.0, 1.0], first_nms_ious=[0.5], nms_iou=0.9)
    assert [each.box.tolist() for each in made.suppressed_by(np.array(A, np.float32), 5)] == [NEAR]
    made = trace([A, FAR], [A, NEAR], [2.0, 1.0], first_nms_ious=[0.9], nms_iou=0.5)
    assert [each.box.tolist() for each in made.suppressed_by(np.array(A, np.float32), 5)] == [NEAR]


def test_before_box_regression_models_do_not_meet() -> None:
    nearer = [0, 0, 10, 8.5]
    models = {"models": np.array([0, 0, 1]), "first_nms_ious": [0.5, 0.5]}
    own = trace([A, NEAR, nearer], [A, FAR, FAR], [2.0, 1.0, 3.0], **models)
    assert own.suppressor(1).score == 2.0  # type: ignore[union-attr]
    models["models"] = np.array([0, 1, 1])
    others = trace([A, nearer, NEAR], [A, FAR, FAR], [2.0, 3.0, 1.0], **models)
    assert others.suppressed_by(np.array(A, np.float32), 5) == []
    assert [each.score for each in others.suppressed_by(np.array(FAR, np.float32), 5)] == [1.0]
