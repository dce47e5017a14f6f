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
