"""Probabilities and the scores that reach them, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.heads.calibration import PRECISIONS, Calibration
from tests.evaluation.boxes import FAR, A, found

ZEROS = np.zeros((PRECISIONS, 3), np.float32)
CALIBRATION = Calibration(np.array([2, 0, 1], np.float32), np.array([-1, 3, 0], np.float32), ZEROS[0], ZEROS)


def test_probabilities_are_sigmoids_of_their_class() -> None:
    detections = CALIBRATION(found((A, 0, 0.5), (FAR, 2, -1000.0), (A, 1, -7.0), (A, 2, 1000.0)))
    assert detections.probabilities is not None
    expected = {0.5: 0.5, -1000.0: 0.0, -7.0: 1 / (1 + np.exp(-3)), 1000.0: 1.0}
    for score, chance in zip(detections.scores.tolist(), detections.probabilities.tolist(), strict=True):
        assert chance == pytest.approx(expected[score])


def test_scores_that_reach_a_probability() -> None:
    # log(0.9 / 0.1) = 2.1972; a class that scores say nothing about has 0.9526 everywhere
    assert CALIBRATION.reaching_probability(0.9).tolist() == [
        pytest.approx(1.5986, abs=1e-4),
        -np.inf,
        pytest.approx(2.1972, abs=1e-4),
    ]
    assert CALIBRATION.reaching_probability(0.96)[1] == np.inf
    assert CALIBRATION.reaching_probability(0).tolist() == [-np.inf] * 3
    assert CALIBRATION.reaching_probability(1).tolist() == [np.inf] * 3


def test_values_of_any_kind_become_singles() -> None:
    values: Any = [np.array([1, 2]), np.zeros(2, np.float64), np.zeros(2, np.int8), np.zeros((PRECISIONS, 2))]
    assert {array.dtype for array in Calibration(*values).to_arrays().values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("slopes", [1, -1, 0], "slopes not negative"),
        ("offsets", [1, np.inf, 0], "must be finite"),
        ("best_f1", [0, np.nan, 0], "best_f1 must not be NaN"),
        ("best_f1", [0, 0], r"best_f1 must have shape \(3,\), but got \(2,\)"),
        ("at_precision", np.zeros((3, 3)), r"at_precision must have shape \(99, 3\)"),
    ],
)
def test_arrays_of_a_file_are_checked(name: str, value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        replace(CALIBRATION, **{name: np.array(value)})


def test_precisions_are_rounded_up_to_hundredths() -> None:
    steps = np.repeat(np.arange(1, PRECISIONS + 1, dtype=np.float32)[:, None], 3, axis=1)
    known = replace(CALIBRATION, at_precision=steps)
    # 100 times 0.07, 0.28 and 0.55 are a hair above their hundredths, 0.29, 0.57 and 0.58 a hair below
    asked = {
        0: 1,
        0.001: 1,
        0.011: 2,
        0.07: 7,
        0.28: 28,
        0.29: 29,
        0.55: 55,
        0.57: 57,
        0.58: 58,
        0.9501: 96,
        0.953: 96,
        0.96: 96,
        0.99: 99,
    }
    assert {precision: int(known.reaching_precision(precision)[0]) for precision in asked} == asked
    with pytest.raises(ValueError, match=r"up to a precision of 0\.99, but not for 0\.991"):
        known.reaching_precision(0.991)


@pytest.mark.filterwarnings("error")
def test_ends_of_probabilities_and_slopes_of_zero_print_no_warning() -> None:
    flat = Calibration(np.zeros(3, np.float32), np.array([-1, 0, 1], np.float32), ZEROS[0], ZEROS)
    # all scores of a class have one probability: 0.27, 0.5, which is reached, and 0.73
    assert flat.reaching_probability(0.5).tolist() == [np.inf, -np.inf, -np.inf]
    for each in (flat, CALIBRATION):
        assert each.reaching_probability(0.0).tolist() == [-np.inf] * 3
        assert each.reaching_probability(1.0).tolist() == [np.inf] * 3
    extreme = found((A, 0, -1e30), (A, 0, 1e30), (A, 1, 1e30))
    chances = CALIBRATION(extreme).probabilities
    assert chances is not None
    np.testing.assert_allclose(chances, [1, 1 / (1 + np.exp(-3)), 0])


def test_parts_join_in_the_order_of_their_classes() -> None:
    first, last = CALIBRATION.of_classes([2, 0]), CALIBRATION.of_classes([1])
    joined = first + last
    assert (joined.slopes.tolist(), joined.offsets.tolist()) == ([1, 2, 0], [0, -1, 3])
    assert joined.at_precision.shape == (PRECISIONS, 3)
