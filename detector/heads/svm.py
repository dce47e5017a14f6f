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
    state = _Lbfgs(problem, torch.from_numpy(features), targets, start)
    active = np.arange(targets.shape[1])
    smoothing = 0.5
    for iteration in range(max_iterations):
        gaps, smoothing_gaps = state.evaluate(smoothing, active)
        if progress:
            progress(iteration, float(gaps.max()))
        # gaps never grow: a class that is done stays so, and costs no more time
        going_on = gaps > tolerance
        if not going_on.any():
            break
        active = active[going_on]
        # once the smoothed problem is solved to a part of what its smoothing costs, smooth less
        if problem.loss == "hinge" and (smoothing_gaps <= 0.3 * gaps)[going_on].all():
            smoothing /= 4
            state.evaluate(smoothing, active)
            state.forget()
        state.step(smoothing, active)
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
        self.gradient = torch.zeros_like(self.variables)
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

    def evaluate(self, smoothing: float, active: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Gradient of the ``active`` ``(n,)`` classes; relative gaps ``(n,)`` of the exact and the smoothed problem."""
        squared = self.problem.loss == "squared_hinge"
        targets = self.targets[active]
        dual, sums = loss_terms(self.scores[active], targets, self.costs[active], smoothing, squared)
        signed = torch.from_numpy(np.ascontiguousarray((dual * targets).T))
        variables = self.variables[:, active]
        image = torch.empty_like(variables)
        image[:-1] = self.matrix.T @ signed
        image[-1] = self.problem.bias_multiplier * signed.sum(0)
        self.gradient[:, active] = variables - image
        norm = (variables.double() ** 2).sum(0).numpy() / 2
        image_norm = (image.double() ** 2).sum(0).numpy() / 2
        exact, smoothed, dual_linear, dual_quadratic = sums.T
        primal = norm + exact
        better = active[primal < self.lowest[active]]
        self.best_variables[:, better] = self.variables[:, better]
        self.lowest[active] = np.minimum(self.lowest[active], primal)
        smoothed_dual = dual_linear - dual_quadratic - image_norm
        dual_now = smoothed_dual if squared else dual_linear - image_norm
        self.best_dual[active] = np.maximum(self.best_dual[active], dual_now)
        scale = np.maximum(self.lowest[active], 1e-12)
        return (self.lowest - self.best_dual)[active] / scale, (norm + smoothed - smoothed_dual) / scale

    def step(self, smoothing: float, active: NDArray[np.int64]) -> None:
        """Move the active classes along their L-BFGS directions by the exact minimiser of the smoothed problem."""
        self._remember()
        direction = -self._apply_inverse_hessian(self.gradient)[:, active]
        variables, scores = self.variables[:, active], self.scores[active]
        slopes = self._times(direction)
        products = torch.stack([(variables * direction).sum(0), (direction**2).sum(0)]).double().numpy()
        squared = self.problem.loss == "squared_hinge"
        lengths = step_lengths(scores, slopes, self.targets[active], self.costs[active], products, smoothing, squared)
        self.previous = (self.variables.clone(), self.gradient.clone())
        self.variables[:, active] = variables + direction * torch.from_numpy(lengths.astype(np.float32))
        self.scores[active] = scores + slopes * lengths[:, None].astype(np.float32)

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
