"""Linear SVMs: the problem by hand, the solver against liblinear and against its certificate."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.heads.linear import LinearSVMs
from detector.training.svm.dual_solver import solve_dual
from detector.training.svm.problem import SVMProblem, solve_liblinear
from tests.reference import svm_objective

Samples = tuple[NDArray[np.float32], NDArray[np.int8]]


@pytest.fixture(scope="module")
def samples() -> Samples:
    """400 samples of mean norm 20 in 3 classes that overlap; a tenth of the targets plays no part."""
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
    assert SVMProblem(C=0.5).objectives(svms, features, targets) == pytest.approx([13 + 0.5 * (14 + 12)])
    squared = SVMProblem("squared_hinge", C=0.5)
    assert squared.objectives(svms, features, targets) == pytest.approx([13 + 0.5 * (196 + 72)])


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_objective_equals_its_twin(samples: Samples, loss: str) -> None:
    features, targets = samples
    problem = SVMProblem(loss, C=0.02)
    svms = solve_dual(problem, features, targets, max_rounds=1)
    expected = [
        svm_objective(svms.weights[:, k], float(svms.biases[k]), features, targets[:, k], problem) for k in range(3)
    ]
    np.testing.assert_allclose(problem.objectives(svms, features, targets), expected, rtol=1e-5)


def test_a_solution_that_was_not_reached_is_told(samples: Samples, caplog: pytest.LogCaptureFixture) -> None:
    problem = SVMProblem(C=0.02)
    solve_dual(problem, *samples)
    assert not caplog.text
    solve_dual(problem, *samples, max_rounds=1)
    assert "3 classes have not converged in 1 rounds" in caplog.text


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("cost", [1e-3, 1e-2])
def test_dual_solver_agrees_with_liblinear(samples: Samples, loss: str, cost: float) -> None:
    features, targets = samples
    problem = SVMProblem(loss, C=cost)
    ours = solve_dual(problem, features, targets)
    theirs = solve_liblinear(problem, features, targets)
    ratio = problem.objectives(ours, features, targets) / problem.objectives(theirs, features, targets)
    assert ratio.max() < 1.001
    for k in range(3):
        scores = np.stack([model.decision_function(features)[:, k] for model in (ours, theirs)])
        assert np.asarray(np.corrcoef(scores))[0, 1] > 0.999


def test_targets_of_zero_take_no_part(samples: Samples) -> None:
    features, targets = samples
    problem = SVMProblem("squared_hinge")
    rows = targets[:, 1] != 0
    alone = solve_dual(problem, features[rows], np.ascontiguousarray(targets[rows, 1:2]), tolerance=1e-5)
    together = solve_dual(problem, features, targets, tolerance=1e-5)
    np.testing.assert_allclose(together.weights[:, 1], alone.weights[:, 0], atol=2e-3)


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_a_warm_start_at_the_solution_ends_at_once(samples: Samples, loss: str) -> None:
    features, targets = samples
    problem = SVMProblem(loss)
    duals = np.zeros(targets.shape, np.float32)
    solved = solve_dual(problem, features, targets, duals)
    rounds: list[int] = []
    again = solve_dual(problem, features, targets, duals, progress=lambda number, gap: rounds.append(number))
    assert rounds == [0]
    np.testing.assert_allclose(again.weights, solved.weights, atol=1e-6)


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_dual_variables_make_the_weights_and_prove_the_objective(samples: Samples, loss: str) -> None:
    features, targets = samples
    problem = SVMProblem(loss, C=0.01)
    duals = np.zeros(targets.shape, np.float32)
    solved = solve_dual(problem, features, targets, duals, tolerance=1e-4)
    assert (duals >= 0).all() and not duals[targets == 0].any()
    signed = duals.astype(np.float64) * targets
    weights, last = features.T.astype(np.float64) @ signed, problem.bias_multiplier * signed.sum(0)
    np.testing.assert_allclose(solved.weights, weights, atol=2e-3)
    costs = problem.costs(targets)
    value = duals.sum(0) - ((weights**2).sum(0) + last**2) / 2
    if loss == "hinge":
        assert (duals <= costs).all()
    else:
        value -= (np.where(duals > 0, duals**2 / np.maximum(costs, 1e-9), 0) / 4).sum(0)
    objectives = problem.objectives(solved, features, targets)
    assert (value <= objectives * (1 + 1e-6)).all()
    assert (value >= objectives * (1 - 1.1e-4)).all()


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_halves_are_solved_as_what_they_say(samples: Samples, loss: str) -> None:
    features, targets = samples
    halves = features.astype(np.float16)
    halves[:, :3] *= np.float16(1e-6)  # among them the smallest there are, and zeros of both signs
    assert (np.abs(halves[:, :3]) < np.finfo(np.float16).smallest_normal).any()
    found = solve_dual(SVMProblem(loss), halves, targets)
    expected = solve_dual(SVMProblem(loss), halves.astype(np.float32), targets)
    np.testing.assert_array_equal(found.weights, expected.weights)


def test_the_number_of_threads_changes_nothing(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = samples
    found = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("DETECTOR_THREADS", threads)
        found.append(solve_dual(SVMProblem(), features, targets))
    for each in found[1:]:
        np.testing.assert_array_equal(each.weights, found[0].weights)


def test_scores_by_hand_and_bad_shapes() -> None:
    svms = LinearSVMs(np.array([[1, 0], [0, 2]], np.float32), np.array([0.5, -1], np.float32))
    assert svms.decision_function(np.array([[1, 1], [2, 0]], np.float32)).tolist() == [[1.5, 1], [2.5, -1]]
    assert svms.decision_function(np.zeros((0, 2), np.float32)).shape == (0, 2)
    with pytest.raises(ValueError, match=r"features must have shape \(_, 2\), but got \(1, 3\)"):
        svms.decision_function(np.zeros((1, 3), np.float32))


def test_bad_problems() -> None:
    with pytest.raises(ValueError, match="loss must be one of hinge, squared_hinge, but is 'log'"):
        SVMProblem("log")
    with pytest.raises(ValueError, match="must be positive"):
        SVMProblem(C=0)
