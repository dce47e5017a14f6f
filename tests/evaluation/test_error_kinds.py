"""Kinds of errors and what they cost, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.evaluation.coverage import image_coverage, missed_reasons
from detector.evaluation.error_kinds import FALSE_KINDS, KINDS, find_error_kinds, lost_precision
from detector.evaluation.voc import Metric, average_precisions, evaluate_voc, mean_of
from tests.evaluation.boxes import CAT, DOG, FAR, NAMES, A, B, Box, found, objects, outcomes_of, random_images

POOR: Box = (0.0, 0.0, 10.0, 4.0)  # IoU 0.4 with A
NONE = dict.fromkeys(KINDS, 0)


def errors(*rows: tuple[Box, int, float], truth: Annotation | None = None) -> tuple[dict[str, int], dict[str, float]]:
    """Counts and losses of detections in an image with a cat at A and a dog at B."""
    truths = [truth or objects("1", (A, CAT, False), (B, DOG, False))]
    outcomes = outcomes_of(truths, [found(*rows)])
    kinds = find_error_kinds(outcomes)
    return kinds.counts(), lost_precision(outcomes, kinds, "area")


@pytest.mark.parametrize("metric", ["voc07", "area"])
def test_outcomes_score_as_the_devkit(metric: Metric) -> None:
    truths, detections = random_images(3)
    result = evaluate_voc(detections, truths, NAMES, metric)
    precisions = average_precisions(outcomes_of(truths, detections), metric)
    assert precisions.tolist() == list(result.AP.values())
    assert mean_of(precisions) == result.mAP


def test_who_found_whom() -> None:
    truths = [objects("1", (A, CAT, False), (B, DOG, True)), objects("2", (A, CAT, False))]
    outcomes = outcomes_of(truths, [found((A, CAT, 0.9), (A, CAT, 0.8), (B, DOG, 0.7)), found()])
    assert outcomes.true.tolist() == [True, False, False]
    assert outcomes.counted.tolist() == [True, True, False]
    assert outcomes.found_by.tolist() == [0, -1, -1]
    assert outcomes.missed.tolist() == [False, False, True]
    assert outcomes.n_wanted().tolist() == [2, 0, 0]


def test_detections_equal_to_the_truth_have_no_error() -> None:
    truths, _ = random_images(1)
    perfect = [Detections(truth.boxes, truth.labels, np.ones(len(truth.labels), np.float32), NAMES) for truth in truths]
    outcomes = outcomes_of(truths, perfect)
    kinds = find_error_kinds(outcomes)
    assert kinds.counts() == NONE
    assert set(lost_precision(outcomes, kinds, "voc07").values()) == {0.0}
    assert mean_of(average_precisions(outcomes, "voc07")) == 1.0


def test_class() -> None:
    # a cat where the dog is: precision of cat 1, 1/2; the dog is found by no other
    counts, lost = errors((A, CAT, 0.5), (B, CAT, 0.9))
    assert counts == NONE | {"class": 1}
    # before: cat 1/2, dog 0; after: both 1
    assert lost == {kind: 0.0 for kind in KINDS} | {"class": pytest.approx(1 - 0.25)}


def test_location() -> None:
    counts, lost = errors((POOR, CAT, 0.9), (B, DOG, 0.9))
    assert counts == NONE | {"location": 1}
    assert lost["location"] == pytest.approx(0.5)
    assert lost["missed"] == 0


def test_of_two_poor_boxes_one_becomes_true() -> None:
    counts, lost = errors((POOR, CAT, 0.9), ((0.0, 0.0, 4.0, 10.0), CAT, 0.8), (B, DOG, 0.9))
    assert counts == NONE | {"location": 2}
    assert lost["location"] == pytest.approx(0.5)


def test_an_object_is_repaired_for_its_best_detection_alone() -> None:
    # the dog's place is taken by a better cat: repairing poor boxes gains nothing for the dog
    poor_dog: Box = (20.0, 0.0, 30.0, 4.0)
    counts, lost = errors((A, CAT, 0.95), (B, CAT, 0.9), (poor_dog, DOG, 0.8))
    assert counts == NONE | {"class": 1, "location": 1}
    assert lost["class"] == pytest.approx(0.5)
    assert lost["location"] == 0


def test_both_duplicate_and_background() -> None:
    poor_dog: Box = (20.0, 0.0, 30.0, 4.0)
    counts, lost = errors((A, CAT, 0.5), (B, DOG, 0.5), (poor_dog, CAT, 0.9))
    assert counts == NONE | {"both": 1}
    assert lost["both"] == pytest.approx(0.25)
    counts, lost = errors((A, CAT, 0.5), (B, DOG, 0.5), (FAR, CAT, 0.9))
    assert counts == NONE | {"background": 1}
    assert lost["background"] == pytest.approx(0.25)
    # two of the sheep, the better one first: all that follow have half the precision
    truth = objects("1", (A, CAT, False), (B, CAT, False))
    counts, lost = errors((A, CAT, 0.9), (A, CAT, 0.8), (B, CAT, 0.7), truth=truth)
    assert counts == NONE | {"duplicate": 1}
    assert lost["duplicate"] == pytest.approx(1 - (1 + 2 / 3) / 2)


def test_an_iou_of_one_half_is_enough_and_one_tenth_is_background() -> None:
    half: Box = (0.0, 0.0, 10.0, 5.0)
    assert errors((half, CAT, 1.0), (B, DOG, 1.0))[0] == NONE
    assert errors((A, CAT, 1.0), (half, CAT, 0.5), (B, DOG, 1.0))[0] == NONE | {"duplicate": 1}
    tenth: Box = (0.0, 0.0, 10.0, 1.0)
    assert errors((A, CAT, 1.0), (B, DOG, 1.0), (tenth, CAT, 0.5))[0] == NONE | {"location": 1}
    assert errors((A, CAT, 1.0), (B, DOG, 1.0), (tenth, DOG, 0.5))[0] == NONE | {"background": 1}


def test_missed() -> None:
    counts, lost = errors((A, CAT, 0.9))
    assert counts == NONE | {"missed": 1}
    assert lost["missed"] == pytest.approx(0.5)  # a class of which nothing is left to miss counts as 1
    truth = objects("1", (A, CAT, False), (B, CAT, False), (FAR, DOG, True))
    counts, lost = errors((A, CAT, 0.9), truth=truth)
    assert counts == NONE | {"missed": 1}
    assert lost["missed"] == pytest.approx(0.5)


def test_nothing_detected_and_nothing_there() -> None:
    counts, lost = errors()
    assert counts == NONE | {"missed": 2}
    assert lost["missed"] == 1
    outcomes = outcomes_of([objects("1")], [found((A, CAT, 1.0))])
    kinds = find_error_kinds(outcomes)
    assert kinds.counts() == NONE | {"background": 1}
    assert set(lost_precision(outcomes, kinds, "voc07").values()) == {0.0}
    assert find_error_kinds(outcomes_of([objects("1")], [found()])).counts() == NONE


def test_a_detection_on_a_difficult_object_is_no_error() -> None:
    truth = objects("1", (A, CAT, False), (B, CAT, True))
    counts, _ = errors((A, CAT, 0.9), (B, CAT, 0.8), truth=truth)
    assert counts == NONE


def test_what_an_error_is_about() -> None:
    outcomes = outcomes_of([objects("1", (A, CAT, False), (B, DOG, False))], [found((POOR, CAT, 0.9), (B, CAT, 0.8))])
    kinds = find_error_kinds(outcomes)
    assert [FALSE_KINDS[kind] for kind in kinds.kinds] == ["location", "class"]
    rows, overlaps = kinds.about()
    assert rows.tolist() == [0, 1]
    assert overlaps.tolist() == [0.4, 1.0]


def test_why_objects_were_missed() -> None:
    truth = objects("1", (A, CAT, False), (B, DOG, False))
    outcomes = outcomes_of([truth], [found()])
    proposals = np.array([FAR, B, (20, 0, 30, 6)], np.float32)
    coverage = image_coverage(proposals, truth.boxes)
    uncovered, low = missed_reasons(outcomes, find_error_kinds(outcomes), coverage, "area")
    assert (uncovered.objects.tolist(), low.objects.tolist()) == ([True, False], [False, True])
    assert (uncovered.lost, low.lost) == (0.5, 0.5)
    # the best of the first proposal, of the first three, and of all
    assert coverage.best[1, [0, 1, -1]].tolist() == [0, 1, 1]
    assert coverage.recall(outcomes.wanted, 0.5)[[0, 1]].tolist() == [0, 0.5]
    assert image_coverage(np.zeros((0, 4), np.float32), truth.boxes).best.max() == 0


def test_a_poor_box_of_an_object_that_is_found_is_only_removed() -> None:
    # A is found at .9; repairing the poor box before it must not find A a second time
    counts, lost = errors((POOR, CAT, 0.95), (A, CAT, 0.9), (B, DOG, 0.9))
    assert counts == NONE | {"location": 1}
    assert lost["location"] == pytest.approx((1 - 0.5) / 2)
    # nor is the wrong class of an object that its own class found
    counts, lost = errors((A, CAT, 0.9), (B, CAT, 0.95), (B, DOG, 0.8))
    assert counts == NONE | {"class": 1}
    assert lost["class"] == pytest.approx((1 - 0.5) / 2)
