"""F1, confusion, standard errors, groups, scores, suspicious labels and two runs, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from detector.evaluation.bootstrap import resample_precisions, standard_errors, weighted_precisions
from detector.evaluation.calibration import are_probabilities, bin_scores
from detector.evaluation.comparison import compare
from detector.evaluation.error_kinds import find_error_kinds, find_label_issues
from detector.evaluation.groups import at_border, find_groups
from detector.evaluation.thresholds import find_confusion, threshold_curve
from detector.evaluation.voc import Metric, average_precision, average_precisions
from tests.evaluation.boxes import CAT, DOG, FAR, SHEEP, A, B, Box, found, objects, outcomes_of, random_images


def test_f1_by_hand() -> None:
    truths = [objects("1", (A, CAT, False), (B, CAT, False)), objects("2", (A, CAT, False))]
    detections = [found((A, CAT, 0.9), (FAR, CAT, 0.5), (B, CAT, 0.5)), found((FAR, CAT, 0.2))]
    curve = threshold_curve(outcomes_of(truths, detections), CAT)
    assert curve.thresholds.tolist() == pytest.approx([0.9, 0.5, 0.2])
    assert curve.n_true.tolist() == [1, 2, 2]
    assert curve.n_false.tolist() == [0, 1, 2]  # equal scores are taken together
    assert curve.precision.tolist() == pytest.approx([1, 2 / 3, 1 / 2])
    assert curve.recall.tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert curve.f1.tolist() == pytest.approx([2 / 4, 4 / 6, 4 / 7])
    best = curve.best
    assert (best.threshold, best.n_true, best.n_false, best.n_missed) == (0.5, 2, 1, 1)
    assert (best.precision, best.recall, best.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    nothing = threshold_curve(outcomes_of(truths, [found(), found()]), CAT).best
    assert (nothing.threshold, nothing.n_true, nothing.n_false, nothing.n_missed) == (np.inf, 0, 0, 3)
    assert nothing.f1 == 0


def test_confusion_by_hand() -> None:
    truths = [
        objects("1", (A, CAT, False), (B, DOG, False), (FAR, CAT, True)),
        objects("2"),
        objects("3", (A, DOG, False)),
    ]
    detections = [
        found((A, CAT, 0.9), (A, CAT, 0.8), (B, SHEEP, 0.7), (FAR, CAT, 0.9), (B, DOG, 0.1)),
        found((A, DOG, 0.6)),
        found(),
    ]
    outcomes = outcomes_of(truths, detections)
    confusion = find_confusion(outcomes, 0.5)
    assert confusion.matrix.tolist() == [
        [1, 0, 0, 0],  # the cat
        [0, 0, 1, 1],  # a dog taken for a sheep, a dog missed
        [0, 0, 0, 0],
        [1, 1, 0, 0],  # a second box on the cat; a dog in an image without objects
    ]
    # with a lower threshold the dog is found by its own class, which leaves nothing for the sheep
    assert find_confusion(outcomes, 0.0).matrix.tolist()[1] == [0, 1, 0, 1]
    assert find_confusion(outcomes, 0.0).matrix.tolist()[3] == [1, 1, 1, 0]
    assert find_confusion(outcomes, np.inf).matrix.sum() == 3


@pytest.mark.parametrize("metric", ["voc07", "area"])
def test_weights_of_one_change_nothing_and_weights_repeat(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    true = rng.random(40) < 0.5
    n = int(true.sum()) + 7
    ones, twos = np.ones((1, 40), np.int64), np.full((1, 40), 2)
    expected = average_precision(true, n, metric)
    assert weighted_precisions(true, ones, np.array([n]), metric) == pytest.approx(expected, abs=1e-12)
    assert weighted_precisions(true, twos, np.array([2 * n]), metric) == pytest.approx(expected, abs=1e-12)
    dropped = ones.copy()
    dropped[0, ::3] = 0
    left = np.delete(true, np.arange(0, 40, 3))
    assert weighted_precisions(true, dropped, np.array([n]), metric) == pytest.approx(
        average_precision(left, n, metric)
    )
    assert np.isnan(weighted_precisions(true, ones, np.array([0]), metric)).all()


def test_bootstrap_of_two_images_by_hand() -> None:
    # one image is right and one is wrong: AP is 1, 1/2 or 0 in a quarter, a half and a quarter of the resamples
    truths = [objects("1", (A, CAT, False)), objects("2", (A, CAT, False))]
    outcomes = outcomes_of(truths, [found((A, CAT, 0.9)), found((FAR, CAT, 0.1))])
    samples = resample_precisions(outcomes, "area", 4000, seed=1)
    assert samples.shape == (4000, 3)
    values, counts = np.unique(samples[:, CAT], return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    errors, mean = standard_errors(samples)
    assert errors[CAT] == pytest.approx(np.sqrt(1 / 8), abs=0.01)
    assert mean == pytest.approx(errors[CAT])
    assert np.isnan(errors[DOG])
    assert np.array_equal(samples, resample_precisions(outcomes, "area", 4000, seed=1), equal_nan=True)


def test_bootstrap_is_centered_on_what_was_measured() -> None:
    truths, detections = random_images(5)
    outcomes = outcomes_of(truths, detections)
    samples = resample_precisions(outcomes, "area", 300)
    _, error = standard_errors(samples)
    assert 0.005 < error < 0.1
    assert samples.mean() == pytest.approx(average_precisions(outcomes, "area").mean(), abs=3 * error)


def test_groups_by_hand() -> None:
    large: Box = (100.0, 0.0, 200.0, 100.0)
    truths = [objects("1", (A, CAT, False), (large, CAT, False))]
    detections = [found((large, CAT, 0.9), ((300.0, 0.0, 310.0, 10.0), CAT, 0.95), (A, CAT, 0.5))]
    groups = {
        group.name: group for group in find_groups(outcomes_of(truths, detections), "area", np.array([[400, 400]]))
    }
    assert groups["small"].mean_precision == 0.5  # a small false one stands before the small true one
    assert groups["large"].mean_precision == 1.0
    assert np.isnan(groups["medium"].mean_precision) and np.isnan(groups["medium"].recall)
    assert groups["square"].objects.tolist() == [True, True]
    assert groups["at the border"].objects.tolist() == [True, True]
    assert at_border(np.array([[3.0, 3, 9, 9], [3, 3, 9, 8]]), np.array([[10, 20], [11, 20]])).tolist() == [True, False]


def test_scores_and_calibration_by_hand() -> None:
    truths = [objects("1", (A, CAT, False), (B, CAT, False))]
    outcomes = outcomes_of(truths, [found((A, CAT, 0.9), (B, CAT, 0.8), (FAR, CAT, 0.85), (FAR, DOG, 0.1))])
    assert are_probabilities(outcomes)
    bins = bin_scores(outcomes, n_bins=2)
    assert bins.edges.tolist() == [0, 0.5, 1]
    assert (bins.n_true.tolist(), bins.n_false.tolist()) == ([0, 2], [1, 1])
    assert bins.true_fraction.tolist() == pytest.approx([0, 2 / 3])
    assert bins.calibration_error == pytest.approx((0.1 + 3 * (0.85 - 2 / 3)) / 4)
    assert not are_probabilities(outcomes_of(truths, [found((A, CAT, 1.1), (B, CAT, 0.5))]))
    assert not are_probabilities(outcomes_of(truths, [found((A, CAT, -0.1), (B, CAT, 0.5))]))
    assert not are_probabilities(outcomes_of(truths, [found()]))
    assert np.isnan(bin_scores(outcomes_of(truths, [found()])).calibration_error)


def test_likely_faults_of_labels() -> None:
    truths = [objects("1", (A, CAT, False), (B, DOG, False))]
    # a confident cat in the void, a confident cat on the dog, and one that does not reach the threshold of its class
    detections = [found((FAR, CAT, 0.95), (A, CAT, 0.9), (B, CAT, 0.92), ((60.0, 60.0, 70.0, 70.0), CAT, 0.1))]
    outcomes = outcomes_of(truths, detections)
    faults = find_label_issues(outcomes, find_error_kinds(outcomes))
    assert outcomes.scores[faults.unlabeled].tolist() == pytest.approx([0.95])
    assert faults.contradicted.tolist() == [1]
    assert outcomes.scores[faults.contradicted_by].tolist() == pytest.approx([0.92])


def test_two_runs_by_hand() -> None:
    truths = [
        objects("1", (A, CAT, False)),
        objects("2", (A, CAT, False), (B, DOG, False)),
        objects("3", (A, DOG, False)),
    ]
    before = outcomes_of(truths, [found((A, CAT, 0.9)), found((B, DOG, 0.9)), found((A, DOG, 0.9))])
    after = outcomes_of(truths, [found((A, CAT, 0.9)), found((A, CAT, 0.9), (B, DOG, 0.9)), found((FAR, DOG, 0.8))])
    change = compare(before, after, "area", resamples=200)
    assert change.differences[:2].tolist() == [0.5, -0.5]
    assert change.mean_difference == 0
    assert change.gained.tolist() == [False, True, False, False]
    assert change.lost.tolist() == [False, False, False, True]
    assert (change.false_before.tolist(), change.false_after.tolist()) == ([0, 0, 0], [0, 0, 0])
    assert change.changed_images().tolist() == [1, 2]
    same = compare(before, before, "voc07", resamples=50)
    assert (same.mean_difference, same.mean_error) == (0, 0)
    assert len(same.changed_images()) == 0
    with pytest.raises(ValueError, match="same images"):
        compare(before, outcomes_of(truths[:2], [found(), found()]), "area")
