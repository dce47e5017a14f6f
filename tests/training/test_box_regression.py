"""Bounding-box regressors: ridge in both forms, whitening, assignment of boxes to objects."""

from __future__ import annotations

import numpy as np
import pytest

from detector.heads.linear import BoxRegressors
from detector.training.box_regression import assign_boxes, fit_regressor, ridge


@pytest.mark.parametrize(("n", "d"), [(30, 8), (8, 30), (12, 12)])
def test_ridge_solves_the_normal_equations(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    samples, targets = (
        rng.standard_normal((n, d)).astype(np.float32),
        rng.standard_normal((n, 4)).astype(np.float32),
    )
    exact = samples.astype(np.float64)
    expected = np.linalg.solve(exact.T @ exact + 3.0 * np.eye(d), exact.T @ targets)
    np.testing.assert_allclose(ridge(samples, targets, 3.0), expected, atol=1e-5)


def test_a_linear_relation_is_recovered() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((500, 10)).astype(np.float32)
    weights = rng.standard_normal((10, 4)).astype(np.float32)
    bias = np.array([0.3, -0.2, 0.1, 0.5], np.float32)
    fitted, fitted_bias = fit_regressor(features, features @ weights + bias, regularization=1e-3)
    np.testing.assert_allclose(fitted, weights, atol=1e-3)
    np.testing.assert_allclose(fitted_bias, bias, atol=1e-3)


def test_fitted_as_in_the_release() -> None:
    """Its program whitens the deltas before, and undoes it afterwards; what is penalised, and by how much, tells."""
    rng = np.random.default_rng(2)
    features = rng.standard_normal((40, 5)).astype(np.float32)
    deltas = (rng.standard_normal((40, 4)) @ rng.standard_normal((4, 4)) + [3, 0, -2, 1]).astype(np.float32)
    mean = deltas.mean(0)
    values, vectors = np.linalg.eigh((deltas - mean).T @ (deltas - mean) / 40)
    transform = vectors @ np.diag((values + 0.001) ** -0.5) @ vectors.T
    inverse = vectors @ np.diag((values + 0.001) ** 0.5) @ vectors.T
    samples = np.hstack([features, np.ones((40, 1))])
    for regularization in (0.5, 7.0, 400.0):
        penalty = regularization * np.eye(6)
        solved = np.linalg.solve(samples.T @ samples + penalty, samples.T @ ((deltas - mean) @ transform)) @ inverse
        weights, bias = fit_regressor(features, deltas, regularization)
        np.testing.assert_allclose(weights, solved[:-1], atol=1e-5)
        np.testing.assert_allclose(bias, solved[-1] + mean, atol=1e-5)
        # the constant is penalised with the weights: nothing of the mean of centered deltas is in it
        free = np.linalg.solve(samples.T @ samples + penalty, samples.T @ deltas)
        assert abs(free[-1] - bias).max() > 1e-3


def test_infinite_regularization_leaves_the_mean_delta() -> None:
    features = np.array([[1], [2], [3]], np.float32)
    deltas = np.array([[1, 0, 0, 2], [2, 0, 1, 2], [6, 0, 2, 2]], np.float32)
    weights, bias = fit_regressor(features, deltas, 1e9)
    np.testing.assert_allclose(weights, 0, atol=1e-6)
    np.testing.assert_allclose(bias, [3, 0, 1, 2], atol=1e-6)


def test_one_sample_is_enough() -> None:
    weights, bias = fit_regressor(np.ones((1, 3), np.float32), np.full((1, 4), 0.5, np.float32), 1.0)
    np.testing.assert_allclose(bias, 0.5)
    np.testing.assert_allclose(weights, 0)


def test_boxes_go_to_the_object_they_overlap_most() -> None:
    overlaps = np.array([[0.6, 0.7], [0.5, 0.1], [0.51, 0.5], [0.2, 0.3]], np.float32)
    rows, objects = assign_boxes(overlaps, np.array([3, 3]))
    assert rows.tolist() == [0, 2]
    assert objects.tolist() == [1, 0]
    rows, objects = assign_boxes(np.zeros((4, 0), np.float32), np.zeros(0, np.int64))
    assert rows.shape == objects.shape == (0,)


def test_each_box_is_moved_by_its_own_class() -> None:
    weights = np.zeros((2, 3, 4), np.float32)
    weights[1, 0] = 1
    regressors = BoxRegressors(weights, np.array([[0, 0, 0, 0], [1, 2, 3, 4]], np.float32))
    features = np.array([[5, 0, 0], [5, 0, 0]], np.float32)
    assert regressors.predict(features, np.array([0, 1])).tolist() == [[0, 0, 0, 0], [6, 7, 8, 9]]
    with pytest.raises(ValueError, match=r"features must have shape \(_, 3\), but got \(1, 2\)"):
        regressors.predict(np.zeros((1, 2), np.float32), np.array([0]))
