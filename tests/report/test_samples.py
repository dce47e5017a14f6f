"""The detections and objects behind the numbers of a report, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.evaluation.coco import CocoIds
from detector.evaluation.comparison import compare
from detector.evaluation.outcomes import Outcomes
from detector.report.run import Run, analyze
from detector.report.samples import Samples, gather_samples
from tests.evaluation.boxes import CAT, DOG, FAR, A, B, Box, found, objects, outcomes_of

C: Box = (50.0, 50.0, 60.0, 60.0)
NOWHERE: Box = (40.0, 0.0, 48.0, 8.0)
TRUTHS = [objects("1", (A, CAT, False), (B, CAT, False), (FAR, CAT, False), (C, DOG, False))]
OF_A, OF_B, OF_FAR, OF_C = range(4)
# rows of the outcomes, best first; the best F1 of cats is that of the first two
TRUE_A, TRUE_B, ON_DOG, BACKGROUND, POOR, TRUE_FAR = range(6)
FIRST = found(
    (A, CAT, 0.9),
    (B, CAT, 0.8),
    (C, CAT, 0.7),
    (NOWHERE, CAT, 0.6),
    ((0.0, 0.0, 10.0, 3.0), CAT, 0.5),
    (FAR, CAT, 0.1),
)


def samples_of(outcomes: Outcomes, other: Outcomes | None = None) -> Samples:
    run = Run(outcomes, "voc07", "test", (Path("1.jpg"),), CocoIds({"1": 1}, (1, 2, 3)))
    comparison = None if other is None else compare(outcomes, other, "voc07", 5)
    return gather_samples(analyze(run, resamples=5), comparison)


def pairs(samples: Samples, key: str) -> list[tuple[int, int]]:
    known = {number: pair for pair, number in samples.pairs.items()}
    return [known[item] for item in samples.sets[key].items]


@pytest.fixture(scope="module")
def samples() -> Samples:
    return samples_of(outcomes_of(TRUTHS, [FIRST]))


def test_best_hits_come_first_and_hits_of_a_threshold_last(samples: Samples) -> None:
    assert pairs(samples, "best-0") == [(TRUE_A, OF_A), (TRUE_B, OF_B), (TRUE_FAR, OF_FAR)]
    assert pairs(samples, "tp-0") == [(TRUE_B, OF_B), (TRUE_A, OF_A)]


def test_objects_that_are_found_below_the_threshold_are_not_found_above_it(samples: Samples) -> None:
    assert pairs(samples, "fn-0") == [(-1, OF_FAR)]
    assert "fp-0" not in samples.sets and pairs(samples, "ap-0") == [(-1, OF_FAR)]
    assert pairs(samples, "fn-1") == [(-1, OF_C)]
    assert "missed-0" not in samples.sets, "each cat is found, however late"


def test_false_detections_are_shown_with_the_object_that_they_are_about(samples: Samples) -> None:
    assert pairs(samples, "class-0") == pairs(samples, "kind-class") == [(ON_DOG, OF_C)]
    assert pairs(samples, "background-0") == [(BACKGROUND, -1)]
    assert pairs(samples, "location-0") == [(POOR, OF_A)]


def test_groups_show_their_missed_objects_alone(samples: Samples) -> None:
    groups = [key for key in samples.sets if key.startswith("group-")]
    assert groups and all(pairs(samples, key) == [(-1, OF_C)] for key in groups)


def test_changes_of_an_image_are_what_was_gained_and_what_was_lost() -> None:
    first, second = (outcomes_of(TRUTHS, [each]) for each in (FIRST, found((A, CAT, 0.9), (C, DOG, 0.8))))
    samples = samples_of(first, second)
    assert pairs(samples, "gained") == [(-1, OF_C)]
    assert pairs(samples, "lost") == [(-1, OF_B)]
    assert sorted(each for each in pairs(samples, "image-0") if each[0] < 0) == [(-1, OF_B), (-1, OF_C)]
