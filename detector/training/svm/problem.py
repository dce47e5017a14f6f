"""Objective of the linear SVMs: one per class, on one shared matrix of samples.

The problem of each class (release: liblinear -s 3 -c 0.001 -w1 2 -B 10)::

    min  1/2 |w|^2 + 1/2 (b / B)^2 + C * sum_i p_i * loss(y_i * (w . x_i + b)),   p_i = positive_weight if y_i > 0

with the hinge ``max(0, 1 - z)`` or its square. A sample with target 0 is left out of a class's problem, so that a hard
negative of one class need not be a negative of another.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from detector.config.detector import SVMConfig
from detector.heads.linear import LinearSVMs
from detector.runtime.optional import optional

Samples = NDArray[np.float32] | NDArray[np.float16]
"""Features ``(N, D)``."""
Targets = NDArray[np.int8]
"""1, -1 or 0 for each sample and class, ``(N, K)``."""
Solver = Callable[[SVMConfig, Samples, Targets, NDArray[np.float32] | None, float], LinearSVMs]
"""Fits the SVMs of all classes to samples.

The fourth argument are dual variables ``(N, K)`` float32 to start from, which a dual solver overwrites with those of
its solution; the last is the relative duality gap to reach, or the closest tolerance that a solver has.
"""


def sample_costs(config: SVMConfig, targets: Targets) -> NDArray[np.float32]:
    """Return the cost ``(N, K)`` float32 of every sample in every class, 0 for target 0."""
    return (config.C * np.where(targets > 0, config.positive_weight, np.abs(targets))).astype(np.float32)


def objectives(
    config: SVMConfig, svms: LinearSVMs, scores: NDArray[np.float32], targets: Targets
) -> NDArray[np.float64]:
    """Return the objective ``(K,)`` float64 of each class for ``svms``, whose scores of the samples are ``(N, K)``."""
    hinge = np.maximum(0, 1 - targets * scores).astype(np.float64)
    losses = hinge if config.loss == "hinge" else hinge**2
    regularizer = (svms.weights.astype(np.float64) ** 2).sum(0) + (svms.biases / config.bias_multiplier) ** 2
    return regularizer / 2 + (sample_costs(config, targets) * losses).sum(0)


def solve_liblinear(
    config: SVMConfig,
    features: Samples,
    targets: Targets,
    duals: NDArray[np.float32] | None = None,
    tolerance: float = 1e-3,
) -> LinearSVMs:
    """Solve class by class with scikit-learn's LinearSVC, the reference solver; ``duals`` are ignored."""
    linear_svc = optional("sklearn.svm", "train").LinearSVC
    weights = np.zeros((features.shape[1], targets.shape[1]), np.float32)
    biases = np.zeros(targets.shape[1], np.float32)
    for k in range(targets.shape[1]):
        rows = targets[:, k] != 0
        model = linear_svc(
            loss=config.loss,
            dual=True,
            C=config.C,
            intercept_scaling=config.bias_multiplier,
            class_weight={1: config.positive_weight},
            tol=tolerance,
            max_iter=10_000,
            random_state=3,
        )
        model.fit(features[rows].astype(np.float32, copy=False), targets[rows, k])
        weights[:, k], biases[k] = model.coef_[0], model.intercept_[0]
    return LinearSVMs(weights, biases)
