"""Limits, ties and what is left out: groups, scores, confusion, coverage, faults of labels, two runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.evaluation.calibration import bin_scores
from detector.evaluation.comparison import compare
from detector.evaluation.coverage import NUMBERS, Coverage, image_coverage, join_coverage, missed_reasons
from detector.evaluation.error_kinds import BACKGROUND, BOTH, CLASS, find_error_kinds, find_label_issues
from detector.evaluation.groups import at_border, find_groups
from detector.evaluation.thresholds import find_confusion, threshold_curve
from detector.evaluation.voc import average_precisions, mean_of
from tests.evaluation.boxes import CAT, DOG, FAR, SHEEP, A, B, Box, found, objects, outcomes_of


def box(width: float, height: float, x: float = 0.0, y: float = 0.0) -> Box:
    return (x, y, x + width, y + height)


def groups_of(*boxes: Box, sizes: tuple[int, int] | None = None) -> dict[str, list[bool]]:
    outcomes = outcomes_of([objects("1", *((each, CAT, False) for each in boxes))], [found()])
    image_sizes = None if sizes is None else np.array([sizes])
    return {group.name: group.objects.tolist() for group in find_groups(outcomes, "area", image_sizes)}


def test_sizes_begin_at_their_lower_end() -> None:
    groups = groups_of(box(31, 33), box(32, 32), box(95, 97), box(96, 96))
    assert groups["small"] == [True, False, False, False]
    assert groups["medium"] == [False, True, True, False]
    assert groups["large"] == [False, False, False, True]
    assert "at the border" not in groups


def test_aspects_are_widths_over_heights() -> None:
    groups = groups_of(box(20, 31), box(20, 30), box(29, 20), box(30, 20), box(10, 40))
    assert groups["tall"] == [True, False, False, False, True]
    assert groups["square"] == [False, True, True, False, False]
    assert groups["wide"] == [False, False, False, True, False]
    # what has no height is of no shape, and nothing is divided by 0
    with np.errstate(all="raise"):
        flat = groups_of(box(20, 0), box(0, 0))
    assert not any(any(flat[name]) for name in ("tall", "square", "wide"))


def test_the_border_is_two_pixels_wide_on_each_side() -> None:
    sizes = np.array([[100, 200]] * 6)
    boxes = np.array(
        [[3, 3, 197, 97], [2, 3, 197, 97], [3, 2, 197, 97], [3, 3, 198, 97], [3, 3, 197, 98], [3, 3, 97, 97]], float
    )
    assert at_border(boxes, sizes).tolist() == [False, True, True, True, True, False]
    groups = groups_of(box(10, 10, 2, 5), box(10, 10, 50, 50), sizes=(100, 200))
    assert (groups["at the border"], groups["inside"]) == ([True, False], [False, True])


def test_false_detections_count_in_the_group_that_they_look_like() -> None:
    small, large = box(10, 10), box(100, 100, 200, 200)
    truths = [objects("1", (small, CAT, False), (large, CAT, False))]
    detections = [found((box(100, 100, 400, 400), CAT, 0.9), (small, CAT, 0.8), (large, CAT, 0.7))]
    groups = {group.name: group for group in find_groups(outcomes_of(truths, detections), "area")}
    assert groups["small"].mean_precision == 1.0
    assert groups["large"].mean_precision == 0.5
    assert (groups["small"].recall, groups["large"].recall) == (1.0, 1.0)
    assert [(group.kind, group.name) for group in groups.values()] == [
        *(("size", name) for name in ("small", "medium", "large")),
        *(("aspect", name) for name in ("tall", "square", "wide")),
    ]
    # difficult ones are in no group, and what finds them counts for none
    hidden = [objects("1", (small, CAT, True), (large, CAT, False))]
    groups = {group.name: group for group in find_groups(outcomes_of(hidden, detections), "area")}
    assert np.isnan(groups["small"].mean_precision)
    assert groups["large"].objects.tolist() == [False, True]


def test_scores_that_are_no_probabilities_are_binned_between_their_ends() -> None:
    truths = [objects("1", (A, CAT, False), (B, DOG, True))]
    rows = [(A, CAT, 2.0), (FAR, CAT, -2.0), (FAR, CAT, 1.2), (B, DOG, 50.0)]
    bins = bin_scores(outcomes_of(truths, [found(*rows)]), 4)
    # what is on a difficult object does not count; ends are at .2 and 99.8 of a hundred of the others
    low, high = np.quantile(np.array([2.0, -2.0, 1.2], np.float32), [0.002, 0.998])
    np.testing.assert_allclose(bins.edges, np.linspace(low, high, 5))
    assert (bins.n_true.tolist(), bins.n_false.tolist()) == ([0, 0, 0, 1], [1, 0, 0, 1])
    assert sorted(bins.bins.tolist()) == [-1, 0, 3, 3]
    np.testing.assert_allclose(bins.mean_score, [-2, np.nan, np.nan, 1.6])
    np.testing.assert_allclose(bins.true_fraction, [0, np.nan, np.nan, 0.5])
    alike = bin_scores(outcomes_of(truths, [found((A, CAT, 5.0), (FAR, CAT, 5.0))]), 2)
    assert alike.edges.tolist() == [5, 5.5, 6]
    assert alike.n_true.tolist() == [1, 0]
    empty = bin_scores(outcomes_of(truths, [found()]))
    assert (len(empty.n_true), empty.edges[0], empty.edges[-1]) == (20, 0, 1)


def test_edges_of_bins_belong_to_the_higher_one() -> None:
    outcomes = outcomes_of([objects("1")], [found(*((FAR, CAT, score) for score in (0.0, 0.5, 0.49, 1.0)))])
    assert bin_scores(outcomes, 2).n_false.tolist() == [2, 2]


def test_confusion_pairs_the_largest_overlap_first() -> None:
    # a sheep overlaps the cat by .6 and the dog by 1/3, a dog overlaps the cat by .9
    cat, dog = box(10, 10), box(10, 10, 0, 20)
    truths = [objects("1", (cat, CAT, False), (dog, DOG, False))]
    detections = [found((box(10, 6), SHEEP, 0.9), (box(10, 9), DOG, 0.8))]
    confusion = find_confusion(outcomes_of(truths, detections), 0.0)
    assert confusion.matrix.tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert confusion.true_labels.tolist() == [CAT, DOG, 3]
    assert confusion.predicted_labels.tolist() == [DOG, 3, SHEEP]
    assert confusion.objects.tolist() == [0, 1, -1]
    # exactly one half is enough, less is not; a score at the threshold is taken
    half = [found((box(10, 5), DOG, 0.5))]
    assert find_confusion(outcomes_of(truths, half), 0.5).matrix[CAT, DOG] == 1
    assert find_confusion(outcomes_of(truths, half), 0.51).matrix[CAT, DOG] == 0
    less = [found((box(10, 4.9), DOG, 0.5))]
    assert find_confusion(outcomes_of(truths, less), 0.0).matrix.tolist()[3] == [0, 1, 0, 0]
    assert find_confusion(outcomes_of(truths, less), 0.0, min_iou=0.49).matrix[CAT, DOG] == 1


def test_one_threshold_for_all_classes_counts_them_together() -> None:
    truths = [objects("1", (A, CAT, False), (B, DOG, False), (FAR, DOG, True))]
    detections = [found((A, CAT, 0.4), (B, DOG, 0.9), (FAR, DOG, 0.95), (B, CAT, 0.9))]
    curve = threshold_curve(outcomes_of(truths, detections))
    np.testing.assert_allclose(curve.thresholds, [0.9, 0.4])
    assert (curve.n_true.tolist(), curve.n_false.tolist(), curve.n_objects) == ([1, 2], [1, 1], 2)
    assert curve.best.threshold == pytest.approx(0.4)
    empty = threshold_curve(outcomes_of([objects("1")], [found((A, CAT, 0.5))]), CAT)
    assert (empty.recall.tolist(), empty.f1.tolist(), empty.precision.tolist()) == ([0], [0], [0])
    assert (empty.best.recall, empty.best.precision, empty.best.n_missed) == (0, 0, 0)


def test_of_equal_f1_the_highest_threshold_is_best() -> None:
    truths = [objects("1", (A, CAT, False), (B, CAT, False))]
    # 1 true: 2/3; 1 true, 1 false: 1/2; 2 true, 2 false: 2/3
    rows = [(A, CAT, 0.9), (FAR, CAT, 0.8), (FAR, CAT, 0.7), (B, CAT, 0.6)]
    assert threshold_curve(outcomes_of(truths, [found(*rows)]), CAT).best.threshold == pytest.approx(0.9)


def test_the_first_proposals_cover_what_the_best_of_them_does() -> None:
    proposals = np.array([[0, 0, 5, 10], [80, 80, 90, 90], [0, 0, 10, 9]] + [[0, 0, 10, 10]] * 1, np.float32)
    few = image_coverage(proposals, np.array([A, FAR]))
    best = few.best
    assert NUMBERS[:3] == (1, 3, 10)
    np.testing.assert_allclose(best[:, :3], np.array([[0.5, 0.9, 1.0], [0, 1, 1]]), rtol=1e-6)
    np.testing.assert_allclose(best[:, -1], [1, 1])
    many = np.concatenate([np.tile(np.array([[50, 50, 51, 51]], np.float32), (6000, 1)), np.array([A], np.float32)])
    all_but_last = image_coverage(many, np.array([A]))
    late = all_but_last.best
    # beyond the largest number, all count
    assert late[0, :-1].tolist() == [0] * (len(NUMBERS) - 1)
    assert late[0, -1] == 1
    coverage = join_coverage([few, all_but_last])
    assert coverage.n_proposals.tolist() == [4, 6001]
    assert coverage.covered().tolist() == [True, True, True]
    assert coverage.recall(np.array([True, False, True]), 0.5)[0] == 0.5
    assert np.isnan(coverage.recall(np.zeros(3, bool), 0.5)).all()
    half = Coverage(np.full((1, len(NUMBERS)), 0.5, np.float32), np.array([1]))
    assert half.covered().tolist() == [True]
    assert half.recall(np.array([True]), 0.51).tolist() == [0] * len(NUMBERS)


def test_missed_reasons_leave_out_what_was_nearly_found() -> None:
    poor = box(10, 4)
    truths = [objects("1", (A, CAT, False), (B, DOG, False), (FAR, SHEEP, False))]
    outcomes = outcomes_of(truths, [found((poor, CAT, 0.5))])
    errors = find_error_kinds(outcomes)
    coverage = image_coverage(np.array([B], np.float32), truths[0].boxes)
    uncovered, low = missed_reasons(outcomes, errors, coverage, "area")
    # the cat is one of location
    assert (uncovered.objects.tolist(), low.objects.tolist()) == ([False, False, True], [False, True, False])
    assert (uncovered.name, low.name) == ("no proposal covered it", "covered, but scored low")


def test_kinds_of_errors_at_their_limits() -> None:
    truths = [objects("1", (A, CAT, False), (B, DOG, False), ((60.0, 0.0, 70.0, 10.0), CAT, False))]

    def kind(*rows: tuple[Box, int, float]) -> list[int]:
        return find_error_kinds(outcomes_of(truths, [found(*rows)])).kinds.tolist()

    half_dog, tenth_dog, more = box(10, 5, 20), box(10, 1, 20), box(10, 1.1, 20)
    assert kind((half_dog, CAT, 0.5)) == [CLASS]
    assert kind((box(10, 4.9, 20), CAT, 0.5)) == [BOTH]
    assert kind((more, CAT, 0.5)) == [BOTH]
    assert kind((tenth_dog, CAT, 0.5)) == [BACKGROUND]
    # what overlaps its own class by a tenth is a poor place before it is another class
    both = box(10, 1, 60)
    assert find_error_kinds(outcomes_of(truths, [found((both, CAT, 0.5))])).targets.tolist() == [2]


def test_faults_of_labels_are_of_the_most_confident() -> None:
    """Confident is what reaches the threshold of the best F1 of its class, here that of the true one."""
    other: Box = (40.0, 40.0, 50.0, 50.0)
    truths = [objects("1", (A, CAT, False), (B, DOG, False), (other, DOG, True))]
    rows = [(A, CAT, 0.5), (FAR, CAT, 0.6), (other, CAT, 0.8), ((60.0, 60.0, 70.0, 70.0), CAT, 0.9), (FAR, CAT, 0.4)]
    outcomes = outcomes_of(truths, [found(*rows)])
    faults = find_label_issues(outcomes, find_error_kinds(outcomes))
    # not that on a difficult object, nor what is below the threshold; the most confident first
    np.testing.assert_allclose(outcomes.scores[faults.unlabeled], [0.9, 0.6])
    against = outcomes_of(truths, [found((A, CAT, 0.5), (B, CAT, 0.9), (B, SHEEP, 0.7), (B, CAT, 0.6))])
    faults = find_label_issues(against, find_error_kinds(against))
    assert faults.contradicted.tolist() == [1]
    np.testing.assert_allclose(against.scores[faults.contradicted_by], [0.9])
    there = outcomes_of(truths, [found((A, CAT, 0.5), (B, CAT, 0.9), (B, DOG, 0.1))])
    assert find_label_issues(there, find_error_kinds(there)).contradicted.tolist() == []


def test_two_runs_tell_false_detections_by_image_and_what_changed_most() -> None:
    truths = [objects(str(number), (A, CAT, False), (B, CAT, False)) for number in range(3)]
    # F1 is best from .9 on before, and from .8 on after: 8 / 11, where it is 6 / 9 from .9 on
    before = outcomes_of(truths, [found((A, CAT, 0.9), (B, CAT, 0.9)), found((A, CAT, 0.9)), found((A, CAT, 0.9))])
    after = outcomes_of(
        truths,
        [
            found((A, CAT, 0.9)),
            found((A, CAT, 0.9), (B, CAT, 0.8), (FAR, CAT, 0.85)),
            found((A, CAT, 0.9)),
        ],
    )
    change = compare(before, after, "area", resamples=20)
    assert change.gained.tolist() == [False, False, False, True, False, False]
    assert change.lost.tolist() == [False, True, False, False, False, False]
    assert (change.false_before.tolist(), change.false_after.tolist()) == ([0, 0, 0], [0, 1, 0])
    assert change.changed_images().tolist() == [1, 0]
    assert change.object_images.tolist() == [0, 0, 1, 1, 2, 2]
    assert change.differences[CAT] == pytest.approx(mean_of(average_precisions(after, "area")) - 4 / 6)
    moved = replace(truths[0], boxes=truths[0].boxes + 1)
    with pytest.raises(ValueError, match="same images, classes and objects"):
        compare(before, outcomes_of([moved, *truths[1:]], [found()] * 3), "area")


def test_a_true_detection_counts_in_the_group_of_its_object_alone() -> None:
    # 33 x 33 is of medium size, 31 x 31 small: each object is found by a box of the other size
    truths = [objects("1", (box(33, 33), CAT, False), (box(31, 31, 200, 200), CAT, False))]
    detections = [found((box(31, 31), CAT, 0.9), (box(33, 33, 200, 200), CAT, 0.8))]
    groups = {group.name: group for group in find_groups(outcomes_of(truths, detections), "area")}
    assert (groups["medium"].mean_precision, groups["medium"].recall) == (1.0, 1.0)
    assert (groups["small"].mean_precision, groups["small"].recall) == (1.0, 1.0)
    assert (groups["medium"].objects.tolist(), groups["small"].objects.tolist()) == ([True, False], [False, True])


def test_runs_are_compared_from_their_best_thresholds_on() -> None:
    truths = [objects("1", (A, CAT, False), (B, CAT, False))]
    false = [(box(9, 9, 100 * number, 100), CAT, 0.5) for number in range(4)]
    # F1 is best from .9 on: 2 / 3, and 1 / 2 with the second object, which four false detections precede
    before = outcomes_of(truths, [found((A, CAT, 0.9), *false, (B, CAT, 0.1))])
    after = outcomes_of(truths, [found((A, CAT, 0.9), (B, CAT, 0.8), (box(9, 9, 300, 300), CAT, 0.1))])
    change = compare(before, after, "area", resamples=20)
    assert (change.gained.tolist(), change.lost.tolist()) == ([False, True], [False, False])
    assert (change.false_before.tolist(), change.false_after.tolist()) == ([0], [0])
    back = compare(after, before, "area", resamples=20)
    assert (back.gained.tolist(), back.lost.tolist()) == ([False, False], [False, True])
