"""The diagnosis of boxes that were found, or missed at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.boxes import as_boxes, iou
from detector.detections import Detections
from detector.ensemble import Ensemble
from detector.explanation.attribution import Attribution
from detector.explanation.diagnosis import (
    Diagnosis,
    ScoredBox,
    SuppressionTrace,
    diagnose,
)
from detector.explanation.explainer import Explainer, explain_box
from detector.heads.calibration import PRECISIONS, Calibration
from tests.explanation.models import KINDS, NAMES, boxes, random_detector, random_image
from tests.fakes import colored, fake_detector, with_heads


def ask(
    box: Sequence[float],
    class_name: str = "red",
    proposals: Sequence[Sequence[float]] = (),
    move: float | None = None,
    min_score: float | None = None,
    max_detections: int | None = None,
    **detection: Any,
) -> Diagnosis:
    """Red is at the upper left, 64 x 64, and scores 150; green at the upper right scores 100; all else scores -100."""
    detector = fake_detector(move, lambda image: as_boxes(proposals)).with_detection(**detection)
    return explain_box(detector, colored(), box, class_name, min_score=min_score, max_detections=max_detections)


def record(box: ScoredBox | None) -> Any:
    assert box is not None
    return box.to_record()


RED, GREEN = [0, 0, 64, 64], [96, 0, 160, 64]


def test_a_box_that_was_found() -> None:
    diagnosis = ask([0, 0, 64, 48], proposals=[RED, GREEN])
    assert diagnosis.outcome == "found"
    assert record(diagnosis.other) == {"box": RED, "score": 150, "iou": 0.75}
    assert diagnosis.attribution.score == 150
    assert diagnosis.sentence == "found: a detection covers it (IoU 0.75, score 150.00)"


def test_a_box_that_no_proposal_covers() -> None:
    diagnosis = ask([0, 0, 64, 16], proposals=[RED, GREEN])
    assert diagnosis.outcome == "no proposal"
    assert record(diagnosis.closest) == {"box": RED, "score": 150, "iou": 0.25}
    assert diagnosis.strongest is None
    # what it would have scored
    assert diagnosis.attribution.score == 150
    assert diagnosis.sentence == "not found: no proposal covers it; the closest has IoU 0.25, score 150.00"


def test_a_box_whose_proposals_score_low() -> None:
    for limit, min_score in ((None, 0.0), (-1.5, -1.5), (-100.5, -100.5)):
        diagnosis = ask([0, 96, 160, 160], proposals=[RED, [0, 96, 160, 160], [0, 96, 160, 150]], min_score=limit)
        if min_score < -100:
            assert diagnosis.outcome == "found"
            continue
        assert diagnosis.outcome == "low score"
        assert diagnosis.min_score == min_score
        assert record(diagnosis.strongest) == {"box": [0, 96, 160, 160], "score": -100, "iou": 1}
        assert diagnosis.sentence.endswith(f"IoU 1.00, score -100.00, below {min_score:g}")


def test_a_calibrated_model_is_diagnosed_in_probabilities() -> None:
    learned = np.full(2, 0.01, np.float32), np.zeros(2, np.float32)
    precisions = np.where([True, False], 0, np.full((PRECISIONS, 2), np.inf)).astype(np.float32)
    calibration = Calibration(*learned, np.array([170, 0], np.float32), precisions)
    model = with_heads(fake_detector(), calibration=calibration)
    for class_name, sentence in (
        ("red", "not found: the best proposal that covers it has IoU 1.00, 82 %, below 85 %"),
        ("green", "IoU 1.00, 27 %, below every threshold: the class is too weak to be shown"),
    ):
        diagnosis = explain_box(model, colored(), RED, class_name)
        assert diagnosis.sentence.endswith(sentence)
        assert diagnosis.to_record()["probability"] == pytest.approx(diagnosis.attribution.probability, abs=1e-6)
    assert repr(diagnosis) == f"Diagnosis(green: {diagnosis.sentence})"
    assert "probability" not in ask(RED, proposals=[RED]).to_record()


@pytest.mark.parametrize(("move", "box_refinements"), [(None, 0), (1e-6, 0), (1e-6, 1)])
def test_a_box_whose_proposal_was_suppressed(move: float | None, box_refinements: int) -> None:
    diagnosis = ask([32, 0, 96, 64], proposals=[RED, [32, 0, 96, 64]], move=move, box_refinements=box_refinements)
    assert diagnosis.outcome == "suppressed"
    assert record(diagnosis.strongest) == {"box": [32, 0, 96, 64], "score": 150, "iou": 1}
    assert record(diagnosis.other) == {"box": RED, "score": 150, "iou": 0.3333}
    assert "was suppressed by a stronger box (IoU 0.33, score 150.00)" in diagnosis.sentence


@pytest.mark.parametrize("box_refinements", [0, 1])
def test_a_box_whose_proposal_was_refined_away(box_refinements: int) -> None:
    diagnosis = ask([40, 0, 104, 64], proposals=[[40, 0, 104, 64]], move=-0.5, box_refinements=box_refinements)
    assert diagnosis.outcome == "refined away"
    assert record(diagnosis.strongest) == {"box": [8, 0, 72, 64], "score": 150, "iou": 0.3333}
    assert record(diagnosis.other) == {"box": [8, 0, 72, 64], "score": 150, "iou": 1}
    assert diagnosis.refined.tolist() == [8, 0, 72, 64]
    out = ask(RED, proposals=[RED], move=-2, box_refinements=box_refinements, min_score=0.0)
    assert (out.outcome, out.other) == ("refined away", None)


def test_a_box_that_ranks_below_the_maximum_of_detections() -> None:
    diagnosis = ask(GREEN, "green", [RED, GREEN], max_detections=1)
    assert diagnosis.outcome == "over the limit"
    assert ask(GREEN, "green", [RED, GREEN], max_detections=2).outcome == "found"


def test_a_box_that_voting_brought_to_a_stronger_one_is_suppressed_also_where_the_list_is_full() -> None:
    box = as_boxes([GREEN])
    score = np.full(1, 2, np.float32)
    one: dict[str, Any] = {
        "models": np.zeros(1, np.int64),
        "scored": np.ones(1, bool),
        "first_nms_ious": [None],
        "nms_iou": 0.3,
    }
    trace = SuppressionTrace(proposals=box, first_scores=score - 1, boxes=box, scores=score, **one)
    attribution = Attribution(box[0], "green", 1.0, (), (160, 160))
    for corners, outcome in (([130, 0, 190, 64], "suppressed"), (RED, "over the limit")):
        found = Detections(as_boxes([corners]), np.ones(1, np.int64), np.full(1, 5, np.float32), ("red", "green"))
        diagnosis = diagnose(attribution, box[0], trace, found, 0.0, 1)
        assert diagnosis.outcome == outcome
        # the closest proposal has its score where it was proposed, the strongest that where it ended
        assert record(diagnosis.closest)["score"] == 1 and record(diagnosis.strongest)["score"] == 2


def test_limits_of_several_models_are_those_of_the_first() -> None:
    proposals = [RED, GREEN, [32, 0, 96, 64]]
    models = [fake_detector(propose=lambda image: as_boxes(proposals)) for _ in range(2)]
    first = models[0].with_detection(max_detections=1)
    assert explain_box(Ensemble([first, models[1]]), colored(), GREEN, "green").outcome == "over the limit"
    assert explain_box(Ensemble([models[1], first]), colored(), GREEN, "green").outcome == "found"
    loose = models[0].with_detection(nms_iou=0.6)
    for ordered, outcome in (([loose, models[1]], "found"), ([models[1], loose], "suppressed")):
        assert explain_box(Ensemble(ordered), colored(), [32, 0, 96, 64], "red").outcome == outcome


def test_detections_are_kept_by_all_of_their_limits() -> None:
    explainer = Explainer(fake_detector(propose=lambda image: as_boxes([RED, GREEN])), colored())
    low, high = (np.full(2, score, np.float32) for score in (0, 120))
    assert [len(explainer.detect(*limits)) for limits in ((low, 1), (low, 2), (high, 2), (low, None))] == [1, 2, 1, 2]
    assert explainer.detect(low, 1) is explainer.detect(low, 1)


def test_an_image_without_proposals() -> None:
    diagnosis = ask(RED, proposals=[])
    assert (diagnosis.outcome, diagnosis.closest, diagnosis.strongest, diagnosis.other) == (
        "no proposal",
        None,
        None,
        None,
    )
    assert diagnosis.attribution.score == 150
    assert diagnosis.to_record()["closest"] is None


def test_a_record_holds_the_attribution() -> None:
    written = explain_box(fake_detector(), colored(), as_boxes([GREEN])[0], "green").to_record()
    assert written["label"] == "green"
    assert written["box"] == GREEN
    assert written["bias"] + np.sum(written["levels"]["1"]) == written["score"] == 100
    assert written["outcome"] == "found"


def test_wrong_questions() -> None:
    for box, name, message in (
        (RED, "dgo", "unknown class 'dgo'; the model knows red, green"),
        ([200, 0, 300, 50], "red", "box must have an area inside the image of 160 x 160"),
        ([20, 20, 20, 50], "red", "box must have an area"),
        ([20, 20, 10, 50], "red", "box must have x1 <= x2"),
        ([0, 0, float("nan"), 9], "red", "box must be finite"),
        ([0, 0, 9], "red", r"box must have shape \(_, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            ask(box, name, [RED])


@pytest.mark.parametrize("kind", ["fc7", "moved", "refined fc7"])
def test_diagnoses_agree_with_detections(kind: str) -> None:
    """Any box in any class of random models: found where a detection lies, else for a reason."""
    outcomes = set()
    for seed in range(2):
        models = [random_detector(each, **KINDS[kind]) for each in (seed, seed + 10)]
        explainer = Explainer(Ensemble(models), random_image(seed))
        thresholds = explainer.model.thresholds(min_score=0.1)
        found = explainer.detect(thresholds)
        proposals = np.concatenate([proposals for _, proposals in explainer.inputs])
        for asked in (*boxes(np.random.default_rng(seed), 5), *proposals[::15]):
            for label, name in enumerate(NAMES):
                diagnosis = explainer.explain_box(asked, name, thresholds)
                outcomes.add(diagnosis.outcome)
                overlaps = iou(found.boxes[found.labels == label], asked[None])
                assert (diagnosis.outcome == "found") == bool((overlaps >= 0.5).any())
                covered = bool((iou(proposals, asked[None]) >= 0.5).any())
                assert (diagnosis.strongest is not None) == covered
                if diagnosis.outcome == "suppressed":
                    assert diagnosis.other is not None and diagnosis.strongest is not None
                    assert diagnosis.other.score >= diagnosis.strongest.score
                    assert diagnosis.other.iou > 0.3
                if kind == "fc7":
                    scores = [
                        model.heads.decision_function(
                            model.encoder.pool(maps, model.encoder.regions(maps, asked[None]))
                        )
                        for model, (maps, _) in zip(models, explainer.inputs, strict=True)
                    ]
                    assert diagnosis.attribution.score == pytest.approx(
                        max(each[0, label] for each in scores), abs=1e-4
                    )
    assert outcomes >= {"found", "no proposal", "low score", "suppressed"}


def test_of_several_models_those_answer_that_know_the_class() -> None:
    one = replace(random_detector(0), class_names=("fig", "pear", "plum"))
    explainer = Explainer(Ensemble([random_detector(1), one]), random_image())
    assert explainer.explain_box([0, 0, 50, 50], "apple").attribution.model == 0
    assert explainer.explain_box([0, 0, 50, 50], "fig").attribution.model == 1
