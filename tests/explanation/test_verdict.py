"""Why a box was not found: what became of the proposals that cover it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.boxes import as_boxes, iou
from detector.explanation.diagnosis import Place, Verdict
from detector.explanation.explainer import Explainer
from tests.explanation.models import KINDS, NAMES, boxes, random_detector, random_image
from tests.fakes import colored, fake_detector


def ask(
    box: Sequence[float],
    class_name: str = "red",
    proposals: Sequence[Sequence[float]] = (),
    move: float | None = None,
    limits: Sequence[Any] = (),
    **detection: Any,
) -> Verdict:
    """Red is at the upper left, 64 x 64, and scores 150; green at the upper right scores 100; all else scores -100."""
    detector = fake_detector(move, lambda image: as_boxes(proposals)).detecting(**detection)
    return Explainer([detector], colored()).explain_box(box, class_name, *limits)


def record(place: Place | None) -> Any:
    assert place is not None
    return place.to_record()


RED, GREEN = [0, 0, 64, 64], [96, 0, 160, 64]


def test_a_box_that_was_found() -> None:
    verdict = ask([0, 0, 64, 48], proposals=[RED, GREEN])
    assert verdict.outcome == "found"
    assert record(verdict.other) == {"box": RED, "score": 150, "iou": 0.75}
    assert verdict.evidence.score == 150
    assert verdict.sentence == "found: a detection lies there (IoU 0.75, score 150.00)"


def test_a_box_that_no_proposal_covers() -> None:
    verdict = ask([0, 0, 64, 16], proposals=[RED, GREEN])
    assert verdict.outcome == "no proposal"
    assert record(verdict.closest) == {"box": RED, "score": 150, "iou": 0.25}
    assert verdict.strongest is None
    # what it would have scored
    assert verdict.evidence.score == 150
    assert verdict.sentence == "not found: no proposal covers it; the closest has IoU 0.25, score 150.00"


def test_a_box_whose_proposals_score_low() -> None:
    for limits, least in (((), -1.5), ((0.0,), 0.0), ((-100.5,), -100.5)):
        verdict = ask([0, 96, 160, 160], proposals=[RED, [0, 96, 160, 160], [0, 96, 160, 150]], limits=limits)
        if least < -100:
            assert verdict.outcome == "found"
            continue
        assert verdict.outcome == "low score"
        assert verdict.min_score == least
        assert record(verdict.strongest) == {"box": [0, 96, 160, 160], "score": -100, "iou": 1}
        assert verdict.sentence.endswith(f"IoU 1.00, score -100.00, below {least:g}")


@pytest.mark.parametrize(("move", "box_refinements"), [(None, 0), (1e-6, 0), (1e-6, 1)])
def test_a_box_whose_proposal_was_suppressed(move: float | None, box_refinements: int) -> None:
    verdict = ask([32, 0, 96, 64], proposals=[RED, [32, 0, 96, 64]], move=move, box_refinements=box_refinements)
    assert verdict.outcome == "suppressed"
    assert record(verdict.strongest) == {"box": [32, 0, 96, 64], "score": 150, "iou": 1}
    assert record(verdict.other) == {"box": RED, "score": 150, "iou": 0.3333}
    assert "was suppressed by a stronger one (IoU 0.33, score 150.00)" in verdict.sentence


@pytest.mark.parametrize("box_refinements", [0, 1])
def test_a_box_whose_proposal_moved_away(box_refinements: int) -> None:
    verdict = ask([40, 0, 104, 64], proposals=[[40, 0, 104, 64]], move=-0.5, box_refinements=box_refinements)
    assert verdict.outcome == "moved away"
    assert record(verdict.strongest) == {"box": [8, 0, 72, 64], "score": 150, "iou": 0.3333}
    assert record(verdict.other) == {"box": [8, 0, 72, 64], "score": 150, "iou": 1}
    assert verdict.moved.tolist() == [8, 0, 72, 64]
    out = ask(RED, proposals=[RED], move=-2, box_refinements=box_refinements, min_score=0.0)
    assert (out.outcome, out.other) == ("moved away", None)


def test_a_box_that_comes_behind_too_many_others() -> None:
    verdict = ask(GREEN, "green", [RED, GREEN], limits=(0.0, 1))
    assert verdict.outcome == "too many"
    assert ask(GREEN, "green", [RED, GREEN], limits=(0.0, 2)).outcome == "found"


def test_an_image_without_proposals() -> None:
    verdict = ask(RED, proposals=[])
    assert (verdict.outcome, verdict.closest, verdict.strongest, verdict.other) == ("no proposal", None, None, None)
    assert verdict.evidence.score == 150
    assert verdict.to_record()["closest"] is None


def test_a_record_holds_the_evidence() -> None:
    written = fake_detector().explain_box(colored(), as_boxes([GREEN])[0], "green").to_record()
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


@pytest.mark.parametrize("kind", ["fc7", "moved", "mirrored"])
def test_verdicts_agree_with_what_is_detected(kind: str) -> None:
    """Any box in any class of random models: found where a detection lies, else for a reason."""
    outcomes = set()
    for seed in range(2):
        models = [random_detector(each, **KINDS[kind]) for each in (seed, seed + 10)]
        explainer = Explainer(models, random_image(seed))
        found = explainer.detect(0.1)
        proposals = np.concatenate([proposals for _, proposals in explainer.inputs])
        for asked in (*boxes(np.random.default_rng(seed), 5), *proposals[::15]):
            for label, name in enumerate(NAMES):
                verdict = explainer.explain_box(asked, name, 0.1)
                outcomes.add(verdict.outcome)
                overlaps = iou(found.boxes[found.labels == label], asked[None])
                assert (verdict.outcome == "found") == bool((overlaps >= 0.5).any())
                covered = bool((iou(proposals, asked[None]) >= 0.5).any())
                assert (verdict.strongest is not None) == covered
                if verdict.outcome == "suppressed":
                    assert verdict.other is not None and verdict.strongest is not None
                    assert verdict.other.score >= verdict.strongest.score
                    assert verdict.other.iou > 0.3
                if kind == "fc7":
                    scores = [
                        model.decision_function(model.encoder.pool(maps, model.encoder.regions(maps, asked[None])))
                        for model, (maps, _) in zip(models, explainer.inputs, strict=True)
                    ]
                    assert verdict.evidence.score == pytest.approx(max(each[0, label] for each in scores), abs=1e-4)
    assert outcomes >= {"found", "no proposal", "low score", "suppressed"}


def test_of_several_models_those_answer_that_know_the_class() -> None:
    one = replace(random_detector(0), class_names=("fig", "pear", "plum"))
    explainer = Explainer([random_detector(1), one], random_image())
    assert explainer.explain_box([0, 0, 50, 50], "apple").evidence.model == 0
    assert explainer.explain_box([0, 0, 50, 50], "fig").evidence.model == 1
