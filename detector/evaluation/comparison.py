"""Two runs on the same images: what one finds and the other does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.bootstrap import resample_precisions, standard_error_of_difference, standard_errors
from detector.evaluation.outcomes import Mask, Outcomes, Rows, mean_of
from detector.evaluation.thresholds import threshold_curve
from detector.evaluation.voc import Metric

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The second run less the first, each at the thresholds of the best F1 of its classes.

    differences, errors: (K,) float64 of average precision and its standard error, paired by images; NaN for unknown.
    mean_difference, mean_error: the same of mAP.
    gained, lost: (M,) bool, objects that only the second, and only the first run finds.
    false_before, false_after: (images,) int64, false detections.
    """

    differences: Values
    errors: Values
    mean_difference: float
    mean_error: float
    gained: Mask
    lost: Mask
    false_before: Rows
    false_after: Rows
    object_images: Rows

    def changed_images(self) -> Rows:
        """Images of which something changed, those that changed most first."""
        n = len(self.false_before)
        found = sum(np.bincount(self.object_images[rows], minlength=n) for rows in (self.gained, self.lost))
        changes = found + np.abs(self.false_after - self.false_before)
        order = np.argsort(-changes, kind="stable")
        return order[changes[order] > 0]


def compare(a: Outcomes, b: Outcomes, metric: Metric, resamples: int = 1000) -> Comparison:
    """Compare runs on the same ground truth. Raises ValueError where images, classes or objects differ."""
    if a.image_ids != b.image_ids or a.class_names != b.class_names or not np.array_equal(a.objects[1], b.objects[1]):
        raise ValueError("runs to compare must be of the same images, classes and objects")
    before, after = a.average_precisions(metric), b.average_precisions(metric)
    samples = [resample_precisions(each, metric, resamples) for each in (a, b)]
    errors, _ = standard_errors(samples[1] - samples[0])
    (found_before, false_before), (found_after, false_after) = _at_best(a), _at_best(b)
    return Comparison(
        after - before,
        errors,
        mean_of(after) - mean_of(before),
        standard_error_of_difference(*samples),
        found_after & ~found_before,
        found_before & ~found_after,
        false_before,
        false_after,
        a.objects.images,
    )


def _at_best(outcomes: Outcomes) -> tuple[Mask, Rows]:
    """Objects that are found, and the number of false detections in each image, at the best thresholds."""
    thresholds = [threshold_curve(outcomes, label).best.threshold for label in range(len(outcomes.class_names))]
    taken = outcomes.scores >= np.array(thresholds, np.float64)[outcomes.labels]
    found = outcomes.wanted & np.append(taken, False)[outcomes.found_by]
    return found, np.bincount(outcomes.images[taken & outcomes.false], minlength=len(outcomes.image_ids))
