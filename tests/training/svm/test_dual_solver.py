"""Linear SVMs: the objective by hand, the solver against liblinear and against its certificate."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.config.detector import SVMConfig
from detector.heads.linear import LinearSVMs
from detector.training.svm.dual_solver import solve_dual
from detector.training.svm.problem import objectives, sample_costs, solve_liblinear
from tests.reference import svm_objective

Samples = tuple[NDArray[np.float32], NDArray[np.int8]]

Loss = Literal["hinge", "squared_hinge"]


@pytest.fixture(scope="module")
def samples() -> Samples:
    """400 samples of mean norm 20 in 3 classes that overlap; a tenth of the targets is 0."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((400, 60)).astype(np.float32)
    features *= 20 / np.linalg.norm(features, axis=1).mean()
    margins = features @ rng.standard_normal((60, 3)) + 15 * rng.standard_normal((400, 3))
    targets = np.where(margins > 20, 1, -1).astype(np.int8)
    targets[rng.random(targets.shape) < 0.1] = 0
    return features, targets


def test_objective_by_hand() -> None:
    svms = LinearSVMs(np.array([[3.0], [4.0]], np.float32), np.array([10.0], np.float32))
    features = np.array([[1, 0], [-5, 0], [0, -3]], np.float32)
    targets = np.array([[-1], [1], [0]], np.int8)
    # scores 13, -5, -2: hinges 14 (weight 1) and 6 (weight 2); 0.5 * 25 + 0.5 * (10 / 10)^2 = 13
    scores = svms.decision_function(features)
    assert objectives(SVMConfig(C=0.5), svms, scores, targets) == pytest.approx([13 + 0.5 * (14 + 12)])
    squared = SVMConfig(loss="squared_hinge", C=0.5)
    assert objectives(squared, svms, scores, targets) == pytest.approx([13 + 0.5 * (196 + 72)])


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_objective_equals_its_twin(samples: Samples, loss: Loss) -> None:
    features, targets = samples
    config = SVMConfig(loss=loss, C=0.02)
    svms = solve_dual(config, features, targets, max_rounds=1)
    expected = [
        svm_objective(svms.weights[:, k], float(svms.biases[k]), features, targets[:, k], config) for k in range(3)
    ]
    np.testing.assert_allclose(objectives(config, svms, svms.decision_function(features), targets), expected, rtol=1e-5)


def test_a_missed_tolerance_is_logged(samples: Samples, caplog: pytest.LogCaptureFixture) -> None:
    config = SVMConfig(C=0.02)
    solve_dual(config, *samples)
    assert not caplog.text
    solve_dual(config, *samples, max_rounds=1)
    assert "3 classes have not converged in 1 rounds" in caplog.text


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("cost", [1e-3, 1e-2])
def test_dual_solver_agrees_with_liblinear(samples: Samples, loss: Loss, cost: float) -> None:
    features, targets = samples
    config = SVMConfig(loss=loss, C=cost)
    ours = solve_dual(config, features, targets)
    theirs = solve_liblinear(config, features, targets)
    found, expected = (objectives(config, svms, svms.decision_function(features), targets) for svms in (ours, theirs))
    ratio = found / expected
    assert ratio.max() < 1.001
    for k in range(3):
        scores = np.stack([model.decision_function(features)[:, k] for model in (ours, theirs)])
        assert np.asarray(np.corrcoef(scores))[0, 1] > 0.999


def test_targets_of_zero_are_left_out(samples: Samples) -> None:
    features, targets = samples
    config = SVMConfig(loss="squared_hinge")
    rows = targets[:, 1] != 0
    alone = solve_dual(config, features[rows], np.ascontiguousarray(targets[rows, 1:2]), tolerance=1e-5)
    together = solve_dual(config, features, targets, tolerance=1e-5)
    np.testing.assert_allclose(together.weights[:, 1], alone.weights[:, 0], atol=2e-3)


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_a_warm_start_at_the_solution_ends_at_once(samples: Samples, loss: Loss) -> None:
    features, targets = samples
    config = SVMConfig(loss=loss)
    duals = np.zeros(targets.shape, np.float32)
    solved = solve_dual(config, features, targets, duals)
    rounds: list[int] = []
    again = solve_dual(config, features, targets, duals, progress=lambda number, gap: rounds.append(number))
    assert rounds == [0]
    np.testing.assert_allclose(again.weights, solved.weights, atol=1e-6)


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_dual_variables_make_the_weights_and_prove_the_objective(samples: Samples, loss: Loss) -> None:
    features, targets = samples
    config = SVMConfig(loss=loss, C=0.01)
    duals = np.zeros(targets.shape, np.float32)
    solved = solve_dual(config, features, targets, duals, tolerance=1e-4)
    assert (duals >= 0).all() and not duals[targets == 0].any()
    signed = duals.astype(np.float64) * targets
    weights, last = features.T.astype(np.float64) @ signed, config.bias_multiplier * signed.sum(0)
    np.testing.assert_allclose(solved.weights, weights, atol=2e-3)
    costs = sample_costs(config, targets)
    value = duals.sum(0) - ((weights**2).sum(0) + last**2) / 2
    if loss == "hinge":
        assert (duals <= costs).all()
    else:
        value -= (np.where(duals > 0, duals**2 / np.maximum(costs, 1e-9), 0) / 4).sum(0)
    primal = objectives(config, solved, solved.decision_function(features), targets)
    assert (value <= primal * (1 + 1e-6)).all()
    assert (value >= primal * (1 - 1.1e-4)).all()


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_float16_features_are_solved_as_their_float32_values(samples: Samples, loss: Loss) -> None:
    features, targets = samples
    halves = features.astype(np.float16)
    halves[:, :3] *= np.float16(1e-6)  # among them the smallest there are, and zeros of both signs
    assert (np.abs(halves[:, :3]) < np.finfo(np.float16).smallest_normal).any()
    found = solve_dual(SVMConfig(loss=loss), halves, targets)
    expected = solve_dual(SVMConfig(loss=loss), halves.astype(np.float32), targets)
    np.testing.assert_array_equal(found.weights, expected.weights)


def test_the_number_of_threads_changes_nothing(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = samples
    found = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("DETECTOR_THREADS", threads)
        found.append(solve_dual(SVMConfig(), features, targets))
    for each in found[1:]:
        np.testing.assert_array_equal(each.weights, found[0].weights)


def test_scores_by_hand_and_bad_shapes() -> None:
    svms = LinearSVMs(np.array([[1, 0], [0, 2]], np.float32), np.array([0.5, -1], np.float32))
    assert svms.decision_function(np.array([[1, 1], [2, 0]], np.float32)).tolist() == [[1.5, 1], [2.5, -1]]
    assert svms.decision_function(np.zeros((0, 2), np.float32)).shape == (0, 2)
    with pytest.raises(ValueError, match=r"features must have shape \(_, 2\), but got \(1, 3\)"):
        svms.decision_function(np.zeros((1, 3), np.float32))
