"""Bin the scores of true and false detections, and measure the calibration error of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.evaluation.outcomes import Outcomes, Rows, gather_outcomes

Values = NDArray[np.float64]

_END_QUANTILES = (0.002, 0.998)
"""Quantiles at which histograms begin and end, so that a single outlier does not flatten all others."""


@dataclass(frozen=True, eq=False)
class ScoreBins:
    """Detections that count, binned by score.

    edges: (B + 1,) float64. n_true, n_false: (B,) int64. mean_score: (B,) float64, NaN for empty bins.
    bins: (N,) int64, the bin of each detection; -1 for those that do not count.
    """

    edges: Values
    n_true: Rows
    n_false: Rows
    mean_score: Values
    bins: Rows

    @property
    def true_fraction(self) -> Values:
        """Fraction of true detections in each bin, (B,); NaN for empty bins."""
        total = self.n_true + self.n_false
        return np.where(total > 0, self.n_true / np.maximum(total, 1), np.nan)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of probabilities (M. P. Naeini et al., AAAI 2015); NaN without detections.

        In each bin, the distance of the mean and the fraction of true detections, weighed by detections.
        """
        total = self.n_true + self.n_false
        used = total > 0
        if not used.any():
            return float("nan")
        return float(np.average(np.abs(self.mean_score - self.true_fraction)[used], weights=total[used]))


def are_probabilities(outcomes: Outcomes) -> bool:
    """Return True when there are scores and all lie in 0..1."""
    scores = outcomes.scores
    return bool(len(scores) and scores.min() >= 0 and scores.max() <= 1)


def bin_scores(outcomes: Outcomes, n_bins: int = 20) -> ScoreBins:
    """Count detections in equal bins over the range of their scores; from 0 to 1 for probabilities."""
    scores = outcomes.scores[outcomes.counted]
    if are_probabilities(outcomes):
        low, high = 0.0, 1.0
    else:
        low, high = np.quantile(scores, _END_QUANTILES).tolist() if len(scores) else (0.0, 1.0)
        high = high if high > low else low + 1.0
    edges = np.linspace(low, high, n_bins + 1)
    bins = np.clip(np.searchsorted(edges, outcomes.scores, side="right") - 1, 0, n_bins - 1)
    bins = np.where(outcomes.counted, bins, -1)
    n_true = np.bincount(bins[outcomes.true], minlength=n_bins)
    n_false = np.bincount(bins[outcomes.false], minlength=n_bins)
    total = np.bincount(bins[outcomes.counted], weights=scores, minlength=n_bins)
    count = n_true + n_false
    means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return ScoreBins(edges, n_true, n_false, means, bins)


def probability_bins(
    detections: Sequence[Detections],
    ground_truth: Sequence[Annotation],
    class_names: Sequence[str],
    n_bins: int = 15,
) -> ScoreBins:
    """Count the detections of each annotation's image in ``n_bins`` equal bins of their probabilities.

    True detections, and those that do not count, are those of `gather_outcomes`. Raises ValueError for detections
    without probabilities.
    """
    rescored = []
    for each in detections:
        # no detections need none, such as those of an image that could not be read
        if each.probabilities is None and len(each):
            raise ValueError("there are no probabilities: the model has no calibration")
        probabilities = each.scores if each.probabilities is None else each.probabilities
        rescored.append(Detections(each.boxes, each.labels, probabilities, each.class_names))
    return bin_scores(gather_outcomes(rescored, ground_truth, class_names), n_bins)
