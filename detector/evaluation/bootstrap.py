"""Estimate the standard error of average precision by the bootstrap over images.

B. Efron, Bootstrap methods: another look at the jackknife (1979). Detections are matched once; a resample weighs each
image by how often it was drawn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.outcomes import Outcomes
from detector.evaluation.voc import Metric

Values = NDArray[np.float64]

_CHUNK = 50  # resamples


def resample_precisions(outcomes: Outcomes, metric: Metric, resamples: int = 1000, seed: int = 0) -> Values:
    """Return the average precision of each class in resampled images, (resamples, K); NaN where a class has no objects.

    Each resample draws all images with replacement. Equal seeds and numbers of images give equal resamples, so that
    two runs can be compared in pairs.
    """
    n_images = len(outcomes.image_ids)
    draws = np.random.default_rng(seed).multinomial(n_images, np.full(n_images, 1 / n_images), resamples)
    wanted = outcomes.wanted
    columns = []
    for label in range(len(outcomes.class_names)):
        rows = outcomes.of_class(label)
        counted = outcomes.counted[rows]
        images, true = outcomes.images[rows][counted], outcomes.true[rows][counted]
        # detections after the last true one change nothing
        end = int(np.flatnonzero(true)[-1]) + 1 if true.any() else 0
        of_objects = outcomes.objects.images[wanted & (outcomes.objects.labels == label)]
        found = [
            weighted_precisions(true[:end], part[:, images[:end]], part[:, of_objects].sum(axis=1), metric)
            for part in np.array_split(draws, max(1, -(-resamples // _CHUNK)))
        ]
        columns.append(np.concatenate(found))
    return np.stack(columns, axis=1)


def weighted_precisions(
    true: NDArray[np.bool_], weights: NDArray[np.int64], n_objects: NDArray[np.int64], metric: Metric
) -> Values:
    """Return the average precision with each detection repeated, (B,) float64; NaN without objects.

    true: (N,) bool, best first. weights: (B, N), repetitions of each detection. n_objects: (B,), objects to be found.
    """
    hits = np.flatnonzero(true)
    n_all = np.cumsum(weights, axis=1)[:, hits]
    own = weights[:, hits]
    n_true = np.cumsum(own, axis=1)
    precision = n_true / np.maximum(n_all, 1)
    # the best precision at this recall or a higher one
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    if metric == "area":
        total = (best * own).sum(axis=1) / np.maximum(n_objects, 1)
    else:
        best = np.concatenate([best, np.zeros((len(best), 1))], axis=1)
        total = np.zeros(len(best))
        for row, (counts, n) in enumerate(zip(n_true, n_objects, strict=True)):
            total[row] = best[row, np.searchsorted(10 * counts, np.arange(11) * n)].mean()
    return np.where(n_objects > 0, total, np.nan)


def standard_errors(resampled: Values) -> tuple[Values, float]:
    """Return the standard errors of each class, (K,), and of mAP, from `resample_precisions`; NaN for unknown."""
    means = _mean_rows(resampled)
    return _deviation(resampled), float(_deviation(means[:, None])[0])


def standard_error_of_difference(a: Values, b: Values) -> float:
    """Return the standard error of the difference in mAP, from `resample_precisions` of two runs with one seed."""
    return float(_deviation((_mean_rows(b) - _mean_rows(a))[:, None])[0])


def _mean_rows(values: Values) -> Values:
    known = ~np.isnan(values)
    counts = known.sum(axis=1)
    total: Values = np.where(known, values, 0).sum(axis=1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _deviation(values: Values) -> Values:
    """Return the standard deviation of each column, ignoring NaN; NaN for fewer than two values."""
    found = []
    for column in values.T:
        known = column[~np.isnan(column)]
        found.append(known.std(ddof=1) if len(known) > 1 else np.nan)
    return np.array(found, np.float64)
