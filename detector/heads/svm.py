"""Linear SVMs, one a class, all on one shared matrix of samples.

The problem of each class (release: liblinear -s 3 -c 0.001 -w1 2 -B 10)::

    min  1/2 |w|^2 + 1/2 (b / B)^2 + C * sum_i p_i * loss(y_i * (w . x_i + b)),   p_i = positive_weight if y_i > 0

with the hinge ``max(0, 1 - z)`` or its square. A sample whose target is 0 takes no part in a class's problem, so that
a hard example found for one class need not be a negative of another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from detector.heads._line_search import loss_terms, step_lengths

LOSSES = ("hinge", "squared_hinge")

_ROWS = 2048


@dataclass(frozen=True)
class LinearSVMs:
    """``weights`` ``(D, K)`` float32 and ``biases`` ``(K,)`` float32 of one linear SVM a class."""

    weights: NDArray[np.float32]
    biases: NDArray[np.float32]

    def decision_function(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Margins ``(R, K)`` float32, unbounded and no probabilities, of ``(R, D)`` float32 features."""
        if features.ndim != 2 or features.shape[1] != len(self.weights):
            raise ValueError(f"features must have shape (_, {len(self.weights)}), but got {features.shape}")
        return features @ self.weights + self.biases


@dataclass(frozen=True)
class SVMProblem:
    """Constants of the problem above; the defaults are the release's."""

    loss: str = "hinge"
    C: float = 1e-3
    positive_weight: float = 2.0
    bias_multiplier: float = 10.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, but is {self.loss!r}")
        if min(self.C, self.positive_weight, self.bias_multiplier) <= 0:
            raise ValueError("C, positive_weight and bias_multiplier must be positive")

    def costs(self, targets: NDArray[np.int8]) -> NDArray[np.float32]:
        """Cost ``(N, K)`` float32 of every sample in every class, 0 where its target is 0."""
        return (self.C * np.where(targets > 0, self.positive_weight, np.abs(targets))).astype(np.float32)

    def objectives(
        self, svms: LinearSVMs, features: NDArray[np.float32], targets: NDArray[np.int8]
    ) -> NDArray[np.float64]:
        """Value ``(K,)`` float64 of each class's problem at ``svms``."""
        hinge = np.maximum(0, 1 - targets * svms.decision_function(features)).astype(np.float64)
        losses = hinge if self.loss == "hinge" else hinge**2
        regulariser = (svms.weights.astype(np.float64) ** 2).sum(0) + (svms.biases / self.bias_multiplier) ** 2
        return regulariser / 2 + (self.costs(targets) * losses).sum(0)


class Solver(Protocol):
    """What mining calls: features ``(N, D)`` float32, targets ``(N, K)`` int8 in -1, 0, 1, and where to start from.

    ``tolerance`` is the relative duality gap to reach, or what comes nearest to that.
    """

    def __call__(
        self,
        problem: SVMProblem,
        features: NDArray[np.float32],
        targets: NDArray[np.int8],
        start: LinearSVMs | None = None,
        tolerance: float = 1e-3,
    ) -> LinearSVMs: ...


def solve_liblinear(
    problem: SVMProblem,
    features: NDArray[np.float32],
    targets: NDArray[np.int8],
    start: LinearSVMs | None = None,
    tolerance: float = 1e-3,
) -> LinearSVMs:
    """Solve class by class with scikit-learn's LinearSVC, the yardstick; ``start`` is not used."""
    from sklearn.svm import LinearSVC

    weights = np.zeros((features.shape[1], targets.shape[1]), np.float32)
    biases = np.zeros(targets.shape[1], np.float32)
    for k in range(targets.shape[1]):
        rows = targets[:, k] != 0
        model = LinearSVC(
            loss=problem.loss,
            dual=True,
            C=problem.C,
            intercept_scaling=problem.bias_multiplier,
            class_weight={1: problem.positive_weight},
            tol=tolerance,
            max_iter=10_000,
            random_state=3,
        )
        model.fit(features[rows], targets[rows, k])
        weights[:, k], biases[k] = model.coef_[0], model.intercept_[0]
    return LinearSVMs(weights, biases)


def solve_primal(
    problem: SVMProblem,
    features: NDArray[np.float32],
    targets: NDArray[np.int8],
    start: LinearSVMs | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 500,
    progress: Callable[[int, float], None] | None = None,
) -> LinearSVMs:
    """Solve all classes at once by L-BFGS with exact line searches, until every duality gap is small.

    The matrix of samples is read twice an iteration for all classes together, whatever their number. A class is
    done when its duality gap is at most ``tolerance`` of its objective: the certificate holds for the exact loss,
    although the hinge is smoothed over a shrinking interval on the way. ``progress`` is called with the iteration
    and the largest relative gap.
    """
    matrix = torch.from_numpy(features)
    state = _Lbfgs(problem, matrix, targets, start)
    smoothing = 0.5
    for iteration in range(max_iterations):
        gaps, smoothing_gaps = state.evaluate(smoothing)
        if progress:
            progress(iteration, float(gaps.max()))
        if (gaps <= tolerance).all():
            break
        # once the smoothed problem is solved to a part of what its smoothing costs, smooth less
        if problem.loss == "hinge" and (smoothing_gaps <= 0.3 * gaps)[gaps > tolerance].all():
            smoothing /= 4
            state.evaluate(smoothing)
            state.forget()
        state.step(smoothing, gaps > tolerance)
    return state.best(problem.bias_multiplier)


class _Lbfgs:
    """Iterate of all classes: variables ``(D + 1, K)``, the bias over its multiplier last; scores ``(K, N)``."""

    memory = 10

    def __init__(
        self, problem: SVMProblem, matrix: torch.Tensor, targets: NDArray[np.int8], start: LinearSVMs | None
    ) -> None:
        n_classes = targets.shape[1]
        self.problem, self.matrix = problem, matrix
        self.targets = np.ascontiguousarray(targets.T)
        self.costs = np.ascontiguousarray(problem.costs(targets).T)
        self.variables = torch.zeros(matrix.shape[1] + 1, n_classes)
        if start is not None:
            self.variables[:-1] = torch.from_numpy(start.weights)
            self.variables[-1] = torch.from_numpy(start.biases / problem.bias_multiplier)
        self.scores = self._times(self.variables)
        self.pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self.previous: tuple[torch.Tensor, torch.Tensor] | None = None
        self.lowest = np.full(n_classes, np.inf)
        self.best_dual = np.full(n_classes, -np.inf)
        self.best_variables = self.variables.clone()

    def _times(self, variables: torch.Tensor) -> NDArray[np.float32]:
        scores = torch.empty(len(self.matrix), variables.shape[1])
        # a tall product is faster in pieces
        for rows, here in zip(self.matrix.split(_ROWS), scores.split(_ROWS), strict=True):
            torch.mm(rows, variables[:-1], out=here)
        scores += self.problem.bias_multiplier * variables[-1]
        return np.ascontiguousarray(scores.numpy().T)

    def evaluate(self, smoothing: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Gradient at the iterate; relative gaps of the exact and of the smoothed problem, ``(K,)`` each."""
        squared = self.problem.loss == "squared_hinge"
        dual, sums = loss_terms(self.scores, self.targets, self.costs, smoothing, squared)
        signed = torch.from_numpy(np.ascontiguousarray((dual * self.targets).T))
        image = torch.empty_like(self.variables)
        image[:-1] = self.matrix.T @ signed
        image[-1] = self.problem.bias_multiplier * signed.sum(0)
        self.gradient = self.variables - image
        norm = (self.variables.double() ** 2).sum(0).numpy() / 2
        image_norm = (image.double() ** 2).sum(0).numpy() / 2
        exact, smoothed, dual_linear, dual_quadratic = sums.T
        primal = norm + exact
        better = primal < self.lowest
        self.lowest = np.where(better, primal, self.lowest)
        self.best_variables[:, torch.from_numpy(better)] = self.variables[:, torch.from_numpy(better)]
        smoothed_dual = dual_linear - dual_quadratic - image_norm
        self.best_dual = np.maximum(self.best_dual, smoothed_dual if squared else dual_linear - image_norm)
        scale = np.maximum(self.lowest, 1e-12)
        return (self.lowest - self.best_dual) / scale, (norm + smoothed - smoothed_dual) / scale

    def step(self, smoothing: float, active: NDArray[np.bool_]) -> None:
        """Move the active classes along their L-BFGS directions by the exact minimiser of the smoothed problem."""
        self._remember()
        direction = -self._apply_inverse_hessian(self.gradient)
        direction[:, torch.from_numpy(~active)] = 0
        slopes = self._times(direction)
        products = torch.stack([(self.variables * direction).sum(0), (direction**2).sum(0)]).double().numpy()
        squared = self.problem.loss == "squared_hinge"
        lengths = step_lengths(self.scores, slopes, self.targets, self.costs, products, smoothing, squared)
        self.previous = (self.variables.clone(), self.gradient)
        self.variables += direction * torch.from_numpy(lengths.astype(np.float32))
        self.scores += slopes * lengths[:, None].astype(np.float32)

    def forget(self) -> None:
        """Drop the curvature of another smoothing."""
        self.pairs.clear()
        self.previous = None

    def _remember(self) -> None:
        if self.previous is None:
            return
        moved, change = self.variables - self.previous[0], self.gradient - self.previous[1]
        curvature = (moved * change).sum(0)
        inverse = torch.where(curvature > 0, 1 / curvature.clamp_min(1e-30), torch.zeros(()))
        self.pairs = [*self.pairs[-self.memory + 1 :], (moved, change, inverse)]

    def _apply_inverse_hessian(self, gradient: torch.Tensor) -> torch.Tensor:
        """Two-loop recursion, each class with its own inner products."""
        vector = gradient.clone()
        shares = []
        for moved, change, inverse in reversed(self.pairs):
            share = inverse * (moved * vector).sum(0)
            vector -= share * change
            shares.append(share)
        if self.pairs:
            _, change, inverse = self.pairs[-1]
            scale = 1 / (inverse * (change**2).sum(0)).clamp_min(1e-30)
            vector *= torch.where(inverse > 0, scale, torch.ones(()))
        for (moved, change, inverse), share in zip(self.pairs, reversed(shares), strict=True):
            vector += (share - inverse * (change * vector).sum(0)) * moved
        return vector

    def best(self, bias_multiplier: float) -> LinearSVMs:
        weights, last = self.best_variables[:-1], self.best_variables[-1]
        return LinearSVMs(weights.numpy().copy(), (last * bias_multiplier).numpy().copy())
