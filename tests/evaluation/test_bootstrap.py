"""The bootstrap over images, by hand and by many resamples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.evaluation.bootstrap import (
    resample_precisions,
    standard_error_of_difference,
    standard_errors,
    weighted_precisions,
)
from detector.evaluation.voc import average_precision, average_precisions
from tests.evaluation.boxes import outcomes_of, random_images


def test_the_error_of_a_difference_is_of_pairs() -> None:
    truths, detections = random_images(4)
    one = resample_precisions(outcomes_of(truths, detections), "area", 60, seed=2)
    # equal images, and everything better by the same: no error of the difference, but one of each
    assert standard_error_of_difference(one, one + 0.1) == pytest.approx(0, abs=1e-12)
    assert standard_errors(one)[1] > 0.005
    np.testing.assert_allclose(standard_errors(one)[0], one.std(0, ddof=1))
    assert standard_error_of_difference(one, one[::-1]) > 0
    assert not np.array_equal(one, resample_precisions(outcomes_of(truths, detections), "area", 60, seed=3))
    unknown = np.array([[np.nan, 1.0], [np.nan, 0.0], [0.5, np.nan]])
    errors, mean = standard_errors(unknown)
    assert np.isnan(errors[0]) and errors[1] == pytest.approx(0.5**0.5)
    assert mean == pytest.approx(np.std([1, 0, 0.5], ddof=1))


@pytest.mark.parametrize("resamples", [1, 50, 51, 120])
def test_resamples_are_as_many_as_asked_for(resamples: int) -> None:
    truths, detections = random_images(4)
    outcomes = outcomes_of(truths, detections)
    samples = resample_precisions(outcomes, "voc07", resamples)
    assert samples.shape == (resamples, 3)
    # each is the precision of its images, repeated as they were drawn
    draws = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), resamples)
    for number in {0, resamples - 1}:
        again = [row for row, count in enumerate(draws[number]) for _ in range(count)]
        ids = [f"{place}" for place in range(30)]
        repeated = [replace(truths[row], image_id=name) for row, name in zip(again, ids, strict=True)]
        expected = average_precisions(outcomes_of(repeated, [detections[row] for row in again]), "voc07")
        np.testing.assert_allclose(samples[number], expected, atol=1e-9)


def test_objects_of_images_that_were_not_drawn_are_not_to_be_found() -> None:
    true = np.array([True, False, True])
    weights = np.array([[2, 1, 0], [0, 0, 3], [0, 0, 0]])
    found_area = weighted_precisions(true, weights, np.array([4, 3, 2]), "area")
    np.testing.assert_allclose(found_area, [2 / 4, 1, 0])
    by_points = weighted_precisions(true, weights, np.array([4, 3, 2]), "voc07")
    np.testing.assert_allclose(by_points, [6 / 11, 1, 0])
    # one object counts; none has no precision
    few = weighted_precisions(np.array([True]), np.array([[1], [1]]), np.array([1, 0]), "area")
    np.testing.assert_array_equal(few, [1, np.nan])
    assert average_precision(np.array([True, True]), 4, "voc07") == pytest.approx(6 / 11)
