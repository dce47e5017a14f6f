"""Linear SVMs, one a class, all on one shared matrix of samples.

The problem of each class (release: liblinear -s 3 -c 0.001 -w1 2 -B 10)::

    min  1/2 |w|^2 + 1/2 (b / B)^2 + C * sum_i p_i * loss(y_i * (w . x_i + b)),   p_i = positive_weight if y_i > 0

with the hinge ``max(0, 1 - z)`` or its square. A sample whose target is 0 takes no part in a class's problem, so that
a hard example found for one class need not be a negative of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detector.heads.linear import LinearSVMs
from detector.runtime.optional import optional

Samples = NDArray[np.float32] | NDArray[np.float16]
"""Features ``(N, D)``."""

LOSSES = ("hinge", "squared_hinge")


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
        return self.objectives_at(svms, svms.decision_function(features), targets)

    def objectives_at(
        self, svms: LinearSVMs, scores: NDArray[np.float32], targets: NDArray[np.int8]
    ) -> NDArray[np.float64]:
        """`objectives`, from what ``svms`` score the samples ``(N, K)``."""
        hinge = np.maximum(0, 1 - targets * scores).astype(np.float64)
        losses = hinge if self.loss == "hinge" else hinge**2
        regularizer = (svms.weights.astype(np.float64) ** 2).sum(0) + (svms.biases / self.bias_multiplier) ** 2
        return regularizer / 2 + (self.costs(targets) * losses).sum(0)


class Solver(Protocol):
    """What mining calls: features ``(N, D)`` float32 or float16, and targets ``(N, K)`` int8 in -1, 0, 1.

    ``duals`` ``(N, K)`` float32 are the dual variables to start from; a solver that has them leaves those of its
    solution there. ``tolerance`` is the relative duality gap to reach, or what comes nearest to that.
    """

    def __call__(
        self,
        problem: SVMProblem,
        features: Samples,
        targets: NDArray[np.int8],
        duals: NDArray[np.float32] | None = None,
        tolerance: float = 1e-3,
    ) -> LinearSVMs: ...


def solve_liblinear(
    problem: SVMProblem,
    features: Samples,
    targets: NDArray[np.int8],
    duals: NDArray[np.float32] | None = None,
    tolerance: float = 1e-3,
) -> LinearSVMs:
    """Solve class by class with scikit-learn's LinearSVC, the yardstick; ``duals`` are not used."""
    linear_svc = optional("sklearn.svm", "train").LinearSVC
    weights = np.zeros((features.shape[1], targets.shape[1]), np.float32)
    biases = np.zeros(targets.shape[1], np.float32)
    for k in range(targets.shape[1]):
        rows = targets[:, k] != 0
        model = linear_svc(
            loss=problem.loss,
            dual=True,
            C=problem.C,
            intercept_scaling=problem.bias_multiplier,
            class_weight={1: problem.positive_weight},
            tol=tolerance,
            max_iter=10_000,
            random_state=3,
        )
        model.fit(features[rows].astype(np.float32, copy=False), targets[rows, k])
        weights[:, k], biases[k] = model.coef_[0], model.intercept_[0]
    return LinearSVMs(weights, biases)
