"""Bounding-box regression: ridge regressors, one a class, from pooled features to box deltas (paper, section 4.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.runtime.optional import optional

# here, so that a training without it ends at its start
linalg = optional("scipy.linalg", "train")

Features = NDArray[np.float32]


def assign_boxes(
    overlaps: NDArray[np.float32], object_labels: NDArray[np.int64], min_iou: float = 0.5
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows ``(M,)`` of boxes that a regressor learns from and the object ``(M,)`` each belongs to, int64.

    ``overlaps`` ``(R, N)`` is the IoU with all N objects of all classes; a box belongs to the one it overlaps most,
    and only if by more than ``min_iou`` (release: strictly).
    """
    if overlaps.shape[1] == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    objects = overlaps.argmax(1)
    rows = np.flatnonzero(overlaps[np.arange(len(overlaps)), objects] > min_iou)
    return rows.astype(np.int64), objects[rows].astype(np.int64)


def fit_regressor(
    features: Features, deltas: NDArray[np.float32], regularisation: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights ``(D, 4)`` and bias ``(4,)``, float32, of one class's regressor.

    ``features`` ``(n, D)`` and ``deltas`` ``(n, 4)`` float32, n at least 1. The deltas are centred, and four ridge
    problems are solved on the features with a constant 1 appended, which is penalised too (release:
    train_bbox_regressor, which also whitens the deltas and undoes it in the weights: a ridge regression is linear in
    its targets, so that this changes nothing). Where n < D the dual gives the same answer for less.
    """
    mean = deltas.mean(0, dtype=np.float64)
    samples = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
    solution = ridge(samples, (deltas - mean).astype(np.float32), regularisation)
    return solution[:-1].astype(np.float32), (solution[-1] + mean).astype(np.float32)


def ridge(samples: Features, targets: NDArray[np.float32], regularisation: float) -> NDArray[np.float64]:
    """Solution ``(D, T)`` of ``min |samples w - targets|^2 + regularisation |w|^2``, by the smaller equations."""
    n, d = samples.shape
    # the upper triangle alone, for half of the work; BLAS counts columns first and would copy what is not transposed
    gram = np.asarray(linalg.blas.ssyrk(1.0, samples.T, trans=n < d), np.float64)
    if n < d:
        dual = _solve(gram, targets.astype(np.float64), regularisation).astype(np.float32)
        return (samples.T @ dual).astype(np.float64)
    return _solve(gram, (samples.T @ targets).astype(np.float64), regularisation)


def _solve(gram: NDArray[np.float64], right: NDArray[np.float64], regularisation: float) -> NDArray[np.float64]:
    gram[np.diag_indices_from(gram)] += regularisation
    factor = linalg.cho_factor(gram, overwrite_a=True, check_finite=False)
    return np.asarray(linalg.cho_solve(factor, right, check_finite=False))
