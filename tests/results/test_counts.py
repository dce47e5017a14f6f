"""Expected counts and their errors, by hand and by chance."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from detector.boxes import as_boxes
from detector.detections import Detections
from detector.results.counts import counts_table, expected_counts

NAMES = ("dog", "cat")


def found(labels: list[int], probabilities: list[float] | None) -> Detections:
    n = len(labels)
    chances = None if probabilities is None else np.array(probabilities, np.float32)
    return Detections(as_boxes([[0, 0, 1, 1]] * n), np.array(labels, int), np.zeros(n, np.float32), NAMES, chances)


def test_counts_are_sums_of_probabilities() -> None:
    expected = expected_counts(found([0, 0, 1], [0.5, 0.75, 1.0]))
    assert expected is not None
    # 0.25 + 0.1875 is the variance of the dogs
    np.testing.assert_allclose(expected, [[1.25, 0.4375**0.5], [1, 0]])
    assert expected_counts(found([0], None)) is None
    nothing = expected_counts(found([], []))
    assert nothing is not None and nothing.tolist() == [[0, 0], [0, 0]]


def test_the_error_is_that_of_the_number_of_objects() -> None:
    random = np.random.default_rng(0)
    chances = random.random(200)
    expected = expected_counts(found([0] * 200, chances.tolist()))
    assert expected is not None
    true = (random.random((2000, 200)) < chances).sum(axis=1)
    assert true.mean() == pytest.approx(expected[0, 0], abs=4 * true.std() / 2000**0.5)
    assert true.std() == pytest.approx(expected[0, 1], rel=0.1)


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return [*csv.reader(file)]


def test_a_row_for_each_image(tmp_path: Path) -> None:
    with counts_table(tmp_path / "counts.csv", NAMES) as add:
        add("a.jpg", np.array([[1.25, 0.5], [0, 0]]), None)
        add("b,1.jpg", np.array([[0, 0], [2.00049, 0.1]]), None)
    assert rows(tmp_path / "counts.csv") == [
        ["image", "dog", "dog error", "cat", "cat error"],
        ["a.jpg", "1.25", "0.5", "0.0", "0.0"],
        ["b,1.jpg", "0.0", "0.0", "2.0", "0.1"],
    ]


def test_a_row_for_each_second_of_a_film(tmp_path: Path) -> None:
    with counts_table(tmp_path / "counts.csv", NAMES[:1], films=True) as add:
        for seconds, number, error in ((0.0, 1, 0.1), (0.9, 2, 0.3), (1.0, 4, 0.2), (3.5, 5, 0.5)):
            add("a.mp4", np.array([[number, error]]), seconds)
        add("b.mp4", np.array([[7, 0]]), 3.6)
    assert rows(tmp_path / "counts.csv") == [
        ["image", "second", "frames", "dog", "dog error"],
        ["a.mp4", "0", "2", "1.5", "0.2"],
        ["a.mp4", "1", "1", "4.0", "0.2"],
        ["a.mp4", "3", "1", "5.0", "0.5"],
        ["b.mp4", "3", "1", "7.0", "0.0"],
    ]
