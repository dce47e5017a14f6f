"""Linear SVMs of all classes at once by coordinate descent on their dual problems (Hsieh et al., ICML 2008).

The dual problem of each class, with the bias as the weight of one more feature of value B::

    max  sum_i a_i - 1/2 |sum_i a_i y_i x_i|^2 - 1/2 sum_i d_i a_i^2,   a_i >= 0

where d_i = 0 and a_i <= C p_i for the hinge, d_i = 1 / (2 C p_i) for its square. A step solves it for one a_i. Reading
the matrix of samples takes most of the time, so each row serves all classes while it is in the processor's cache. This
makes it faster than solving one class after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from detector.config.detector import SVMConfig
from detector.heads.linear import LinearSVMs
from detector.runtime.compiling import kernel, reordering_kernel
from detector.runtime.threads import in_threads, thread_count
from detector.training.svm.problem import Samples, Targets, sample_costs

_SWEEPS = 3
# a tall product is faster in blocks, and float16 is widened in the processor's cache
_ROWS = 512
# samples outside of the margin by more than this are skipped until the next check
_MARGIN = 0.1
_log = logging.getLogger(__name__)


def solve_dual(
    config: SVMConfig,
    features: Samples,
    targets: Targets,
    duals: NDArray[np.float32] | None = None,
    tolerance: float = 1e-3,
    max_rounds: int = 300,
    progress: Callable[[int, float], None] | None = None,
) -> LinearSVMs:
    """Solve all classes at once, each until its duality gap is at most ``tolerance`` of its objective.

    duals: dual variables ``(N, K)`` float32 to start from; overwritten with those of the solution.
    max_rounds: a round is a check of all samples and some sweeps, in random order, over those near or inside a margin.
        Without convergence, a warning is logged and the best weights so far are returned.
    progress: called with the number of the round and the largest relative gap.
    The threads share the classes, so that their number does not change the result.
    """
    iterate = _Iterate(config, features, targets, np.zeros(targets.shape, np.float32) if duals is None else duals)
    random = np.random.default_rng(0)
    for number in range(max_rounds + 1):
        gaps, active = iterate.check()
        if progress:
            progress(number, float(gaps.max()))
        classes = np.flatnonzero(gaps > tolerance)
        if not len(classes):
            break
        if number == max_rounds:
            _log.warning("%d classes have not converged in %d rounds: gap %.2g", len(classes), number, gaps.max())
            break
        rows = np.flatnonzero(active[:, classes].any(1))
        for _ in range(_SWEEPS):
            iterate.sweep(random.permutation(rows), classes, active)
    return iterate.best()


class _Iterate:
    """Dual variables ``(N, K)`` and their weights ``(K, D)`` and biases ``(K,)``, divided by the bias multiplier."""

    def __init__(self, config: SVMConfig, features: Samples, targets: Targets, duals: NDArray[np.float32]) -> None:
        self.features, self.targets, self.duals = features, targets, duals
        # numba has no float16, so that kernels read its bits
        self._halves, self._singles = np.empty((0, features.shape[1]), np.uint16), features
        if features.dtype == np.float16:
            self._halves, self._singles = features.view(np.uint16), np.empty((0, features.shape[1]), np.float32)
        self.multiplier = np.float32(config.bias_multiplier)
        self.squared = config.loss == "squared_hinge"
        self.costs = sample_costs(config, targets)
        self.curvatures = np.zeros_like(self.costs)
        if self.squared:
            np.divide(0.5, self.costs, out=self.curvatures, where=self.costs > 0)
        signed = duals * targets
        self.weights = np.zeros((targets.shape[1], features.shape[1]), np.float32)
        self.squares = np.empty(len(features), np.float32)
        for rows, values in self._blocks():
            self.squares[rows] = np.einsum("nd,nd->n", values, values) + self.multiplier**2
            self.weights += signed[rows].T @ values
        self.biases = self.multiplier * signed.sum(0)
        n_classes = targets.shape[1]
        self.lowest = np.full(n_classes, np.inf)
        self.best_dual = np.full(n_classes, -np.inf)
        self.best_weights, self.best_biases = self.weights.copy(), self.biases.copy()

    def _blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield blocks of rows and their features in float32; the next block overwrites the last one."""
        widened = np.empty((_ROWS, self.features.shape[1]), np.float32)
        for start in range(0, len(self.features), _ROWS):
            rows = slice(start, start + _ROWS)
            block = self.features[rows]
            values = widened[: len(block)] if block.dtype == np.float16 else np.asarray(block, np.float32)
            if block.dtype == np.float16:
                np.copyto(values, block)
            yield rows, values

    def _slack(self) -> NDArray[np.float32]:
        """Return the slack ``(N, K)`` of the samples: 1 minus their margin, negative outside of the margin."""
        scores = np.empty(self.targets.shape, np.float32)
        for rows, values in self._blocks():
            np.matmul(values, self.weights.T, out=scores[rows])
        return np.asarray(1 - self.targets * (scores + self.multiplier * self.biases), np.float32)

    def _norms(self) -> NDArray[np.float64]:
        """Return half of the squared norm ``(K,)`` of each class's weights and bias."""
        return (np.einsum("kd,kd->k", self.weights, self.weights, dtype=np.float64) + self.biases**2) / 2

    def check(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the relative duality gap ``(K,)`` of each class, and a mask ``(N, K)`` of samples to sweep next."""
        slack = self._slack()
        active = (self.targets != 0) & ((self.duals > 0) | (slack > -_MARGIN))
        norms, hinge = self._norms(), np.maximum(slack, 0)
        primal = norms + _sum(self.costs * (hinge**2 if self.squared else hinge))
        dual = _sum(self.duals) - norms - _sum(self.curvatures * self.duals**2) / 2
        better = primal < self.lowest
        self.best_weights[better], self.best_biases[better] = self.weights[better], self.biases[better]
        self.lowest = np.minimum(self.lowest, primal)
        self.best_dual = np.maximum(self.best_dual, dual)
        return (self.lowest - self.best_dual) / np.maximum(self.lowest, 1e-12), active

    def sweep(self, rows: NDArray[np.int64], classes: NDArray[np.int64], active: NDArray[np.bool_]) -> None:
        """Take one step for every active sample of the ``rows`` and ``classes``."""
        threads = min(thread_count(), len(classes))
        # the most work first, one class after the other to each thread
        busiest = classes[np.argsort(-active[:, classes].sum(0), kind="stable")]
        data = self.squares, self.targets, self.costs, self.curvatures
        iterate = self.duals, self.weights, self.biases
        upper = np.float32(np.inf) if self.squared else np.float32(1)
        work = partial(_sweep, self._halves, self._singles, *data, self.multiplier, upper, *iterate, rows, active)
        in_threads(work, [busiest[first::threads] for first in range(threads)], threads)

    def best(self) -> LinearSVMs:
        """Return the SVMs of the lowest primal objective so far."""
        return LinearSVMs(np.ascontiguousarray(self.best_weights.T), self.best_biases * self.multiplier)


def _sum(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return values.sum(0, dtype=np.float64)


@kernel
def _sweep(  # type: ignore[no-untyped-def]
    halves,
    singles,
    squares,
    targets,
    costs,
    curvatures,
    multiplier,
    upper,
    duals,
    weights,
    biases,
    rows,
    active,
    classes,
):
    """Solve for one dual variable after the other, up to ``upper`` times its cost, and update the weights.

    Features are the float16 ``halves``, as uint16, or, if these are empty, the float32 ``singles``.
    """
    widened = np.empty(weights.shape[1], np.float32)
    for i in rows:
        fresh = True
        for k in classes:
            if not active[i, k]:
                continue
            if fresh and len(halves) > 0:
                _widen(halves[i], widened)
            fresh = False
            features = widened if len(halves) > 0 else singles[i]
            target = np.float32(targets[i, k])
            score = _dot(features, weights[k]) + multiplier * biases[k]
            old = duals[i, k]
            slope = target * score - np.float32(1) + curvatures[i, k] * old
            new = old - slope / (squares[i] + curvatures[i, k])
            new = min(max(new, np.float32(0)), upper * costs[i, k])
            if new != old:
                duals[i, k] = new
                signed = (new - old) * target
                biases[k] += signed * multiplier
                for j in range(len(features)):
                    weights[k, j] += signed * features[j]


@kernel
def _widen(halves, widened):  # type: ignore[no-untyped-def]
    """Convert finite float16, as uint16, to float32: a product moves the exponent, exactly also for subnormals."""
    bits = widened.view(np.uint32)
    for j in range(len(halves)):
        half = np.uint32(halves[j])
        bits[j] = ((half & np.uint32(0x8000)) << np.uint32(16)) | ((half & np.uint32(0x7FFF)) << np.uint32(13))
    for j in range(len(widened)):
        widened[j] *= np.float32(2.0**112)


@reordering_kernel
def _dot(left, right):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for j in range(len(left)):
        total += left[j] * right[j]
    return total
