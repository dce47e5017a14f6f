"""Layers, scores and regressors together, against each of them alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from detector.heads.fully_connected import FullyConnected, Softmax
from detector.heads.heads import Heads, RegressorInput
from detector.heads.linear import BoxRegressors, LinearSVMs

N_POOLED, N_LAYER, N_CLASSES = 5, 4, 3
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return RANDOM.normal(size=shape).astype(np.float32)


LAYERS = FullyConnected([normal(N_LAYER, N_POOLED).astype(np.float16)], [normal(N_LAYER)])
POOLED = normal(6, N_POOLED)
# a row in several pairs, others in none
ROWS, LABELS = np.array([5, 0, 0, 3, 5]), np.array([2, 0, 1, 1, 2])


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("layers", [None, LAYERS])
@pytest.mark.parametrize("reads", ["pooled", "layer"])
def test_a_look_is_at_the_pairs_and_what_is_asked_for(
    moves: bool, scores: bool, layers: FullyConnected | None, reads: RegressorInput
) -> None:
    n_features = N_POOLED if layers is None else N_LAYER
    n_moved = n_features if reads == "layer" else N_POOLED
    regressors = BoxRegressors(normal(N_CLASSES, n_moved, 4), normal(N_CLASSES, 4))
    svms = LinearSVMs(normal(n_features, N_CLASSES), normal(N_CLASSES))
    heads = Heads(svms, [regressors], layers, reads)
    deltas, found = heads.score_and_regress(POOLED, ROWS, LABELS, regressors if moves else None, scores)
    features = POOLED if layers is None else layers(POOLED)
    moved = features if reads == "layer" else POOLED
    for pair, (row, label) in enumerate(zip(ROWS, LABELS, strict=True)):
        score = features[row] @ svms.weights[:, label] + svms.biases[label]
        delta = moved[row] @ regressors.weights[label] + regressors.biases[label]
        np.testing.assert_allclose(found[pair], score if scores else 0, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(deltas[pair], delta if moves else np.zeros(4), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layers", [None, LAYERS])
@pytest.mark.parametrize("kind", [LinearSVMs, Softmax])
def test_heads_come_back_from_their_arrays(
    kind: type[LinearSVMs] | type[Softmax], layers: FullyConnected | None
) -> None:
    n_features = N_POOLED if layers is None else N_LAYER
    n_outputs = N_CLASSES + (kind is Softmax)
    regressors = [BoxRegressors(normal(N_CLASSES, N_POOLED, 4), normal(N_CLASSES, 4)) for _ in range(2)]
    scorer = kind(normal(n_features, n_outputs), normal(n_outputs))
    heads = Heads(scorer, regressors, layers)
    again = Heads.from_arrays(heads.to_arrays())
    again.check(N_POOLED, N_CLASSES)
    assert type(again.scorer) is kind
    assert (again.layers is None) == (layers is None)
    for stages in zip(again.regressors, regressors, strict=True):
        found, expected = (
            each.score_and_regress(POOLED, ROWS, LABELS, stage, score=True)
            for each, stage in zip((again, heads), stages, strict=True)
        )
        for here, there in zip(found, expected, strict=True):
            np.testing.assert_array_equal(here, there)


def test_some_classes_keep_both_of_their_regressors() -> None:
    regressors = [BoxRegressors(normal(N_CLASSES, N_POOLED, 4), normal(N_CLASSES, 4)) for _ in range(2)]
    svms = LinearSVMs(normal(N_POOLED, N_CLASSES), normal(N_CLASSES))
    some = Heads(svms, regressors).select([2, 0])
    for selected, each in zip(some.regressors, regressors, strict=True):
        assert np.array_equal(selected.weights, each.weights[[2, 0]])


def test_second_regressors_need_the_first() -> None:
    regressors = [BoxRegressors(normal(N_CLASSES, N_POOLED, 4), normal(N_CLASSES, 4)) for _ in range(2)]
    arrays = Heads(LinearSVMs(normal(N_POOLED, N_CLASSES), normal(N_CLASSES)), regressors).to_arrays()
    without_first = {name: each for name, each in arrays.items() if not name.startswith("regression.")}
    with pytest.raises(ValueError, match="no first ones"):
        Heads.from_arrays(without_first)


def test_second_regressors_fit_the_first() -> None:
    regressors = [BoxRegressors(normal(N_CLASSES, n, 4), normal(N_CLASSES, 4)) for n in (N_POOLED, N_POOLED + 1)]
    svms = LinearSVMs(normal(N_POOLED, N_CLASSES), normal(N_CLASSES))
    with pytest.raises(ValueError, match="must have shape"):
        Heads(svms, regressors).check(N_POOLED, N_CLASSES)


@pytest.mark.parametrize("layers", [None, LAYERS])
def test_scores_are_sums_of_features_times_weights(layers: FullyConnected | None) -> None:
    n_features = N_POOLED if layers is None else N_LAYER
    heads = Heads(LinearSVMs(normal(n_features, N_CLASSES), normal(N_CLASSES)), layers=layers)
    labels = np.array([0, 1, 2, 0, 1, 2])
    weights, constants = heads.affine_at(POOLED, labels)
    scores = heads.decision_function(POOLED)[np.arange(6), labels]
    np.testing.assert_allclose((weights * POOLED).sum(1) + constants, scores, rtol=1e-4, atol=1e-5)


def test_a_softmax_of_other_features_is_refused() -> None:
    softmax = Softmax(normal(N_POOLED, N_CLASSES + 1), normal(N_CLASSES + 1))
    for features in (normal(2, N_POOLED + 1), normal(N_POOLED)):
        with pytest.raises(ValueError, match=r"features must have shape \(_, 5\), but got"):
            softmax.decision_function(features)


# 1 + 2^-8 lies halfway between two numbers of bfloat16, and is rounded to the even one, which is 1
HALFWAY = 1 + 2.0**-8


def halfway(precision: str) -> FullyConnected:
    weights = [np.array([[HALFWAY]], np.float16), np.array([[2]], np.float16)]
    return FullyConnected(weights, [np.zeros(1, np.float32)] * 2, precision)


@pytest.mark.parametrize(("precision", "value"), [("float32", 2 * HALFWAY), ("bfloat16", 2.0)])
def test_layers_keep_their_precision(precision: str, value: float) -> None:
    layers, one = halfway(precision), np.ones((1, 1), np.float32)
    assert layers(one).tolist() == [[value]]
    # also in workers, which get a copy, and in models that are saved, changed and explained
    copied = pickle.loads(pickle.dumps(layers))
    assert (copied.precision, copied(one).tolist()) == (precision, [[value]])
    weights, constants = layers.affine_at(one, one)
    assert (weights.tolist(), constants.tolist()) == ([[value]], [0])
    heads = Heads(LinearSVMs(np.ones((1, 2), np.float32), np.zeros(2, np.float32)), layers=layers)
    assert heads.select([1]).decision_function(one).tolist() == [[value]]
    read = Heads.from_arrays(heads.to_arrays(), precision)
    assert read.decision_function(one).tolist() == [[value, value]]


def test_a_softmax_that_is_certain_has_finite_log_odds() -> None:
    softmax = Softmax(np.array([[1, -1, 0]], np.float32), np.zeros(3, np.float32))
    with np.errstate(all="raise", under="ignore"):
        certain = softmax.decision_function(np.array([[500.0]], np.float32))
        weights, constants = softmax.affine_at(np.array([[500.0]], np.float32), np.array([0]))
    assert np.isfinite(certain).all() and certain[0, 0] > 80 > -80 > certain[0, 1]
    # against the background, whose value is constant, and whose entropy is 0
    assert (weights.round(6).tolist(), constants.round(6).tolist()) == ([[1]], [0])
