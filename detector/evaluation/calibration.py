"""What scores say: those of true and false detections, and whether probabilities are what they claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.evaluation.outcomes import Outcomes, Rows, gather_outcomes
from detector.evaluation.voc import by_class

Values = NDArray[np.float64]

_EDGES_AT = (0.002, 0.998)
"""Quantiles at which histograms begin and end, so that a single far score does not flatten all others."""


@dataclass(frozen=True, eq=False)
class ScoreBins:
    """Detections that count, in bins of their scores.

    edges: (B + 1,) float64. n_true, n_false: (B,) int64. mean_score: (B,) float64, NaN for empty bins.
    bins: (N,) int64, the bin of each detection; -1 for those that do not count.
    """

    edges: Values
    n_true: Rows
    n_false: Rows
    mean_score: Values
    bins: Rows

    @property
    def share_true(self) -> Values:
        """The share of true ones in each bin, (B,); NaN for empty bins."""
        total = self.n_true + self.n_false
        return np.where(total > 0, self.n_true / np.maximum(total, 1), np.nan)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: how far mean score and share of true ones are apart, weighed by detections."""
        total = self.n_true + self.n_false
        used = total > 0
        if not used.any():
            return float("nan")
        return float(np.average(np.abs(self.mean_score - self.share_true)[used], weights=total[used]))


def are_probabilities(outcomes: Outcomes) -> bool:
    """Whether all scores lie in 0..1, and there are some."""
    scores = outcomes.scores
    return bool(len(scores) and scores.min() >= 0 and scores.max() <= 1)


def bin_scores(outcomes: Outcomes, n_bins: int = 20) -> ScoreBins:
    """Equal bins over the scores that occur: from 0 to 1 for probabilities."""
    scores = outcomes.scores[outcomes.counted]
    if are_probabilities(outcomes):
        low, high = 0.0, 1.0
    else:
        low, high = np.quantile(scores, _EDGES_AT).tolist() if len(scores) else (0.0, 1.0)
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
    min_probability: float = 0,
    n_bins: int = 15,
) -> ScoreBins:
    """The detections in images, one for each of the annotations, in ``n_bins`` equal bins of their probabilities.

    What is true, and what does not count, is as in `detector.evaluation.voc.evaluate_voc`. Raises ValueError for
    detections without probabilities.
    """
    rescored = []
    for each in detections:
        if each.probabilities is None:
            raise ValueError("there are no probabilities: the model has no calibration")
        likely = each.where(min_probability=min_probability)
        assert likely.probabilities is not None
        rescored.append(Detections(likely.boxes, likely.labels, likely.probabilities, likely.class_names))
    image_ids = [each.image_id for each in ground_truth]
    return bin_scores(gather_outcomes(by_class(image_ids, rescored), ground_truth, class_names), n_bins)


def calibration_error(
    detections: Sequence[Detections],
    ground_truth: Sequence[Annotation],
    class_names: Sequence[str],
    min_probability: float = 0,
    n_bins: int = 15,
) -> float:
    """Expected calibration error of all classes together, with the arguments and errors of `probability_bins`.

    In each bin, the distance between the mean probability and the share of true detections, weighed by their number
    (M. P. Naeini et al., AAAI 2015). NaN without detections of ``min_probability``.
    """
    return probability_bins(detections, ground_truth, class_names, min_probability, n_bins).calibration_error
