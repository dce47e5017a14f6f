"""Compare two runs on the same images: changes of average precision, objects gained and lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.bootstrap import resample_precisions, standard_error_of_difference, standard_errors
from detector.evaluation.outcomes import Mask, Outcomes, Rows
from detector.evaluation.thresholds import best_thresholds
from detector.evaluation.voc import Metric, average_precisions, mean_of

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The second run minus the first, each at the thresholds of the best F1 of its classes.

    differences, errors: (K,) float64 of average precision and its standard error, paired by images; NaN for unknown.
    mean_difference, mean_error: the same of mAP.
    gained, lost: (M,) bool, objects that only the second, and only the first run finds.
    false_before, false_after: (images,) int64, number of false detections.
    object_images: (M,) int64, the image of each object.
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
        """Return the images with a change, those with most changes first."""
        n = len(self.false_before)
        found = sum(np.bincount(self.object_images[rows], minlength=n) for rows in (self.gained, self.lost))
        changes = found + np.abs(self.false_after - self.false_before)
        order = np.argsort(-changes, kind="stable")
        return order[changes[order] > 0]


def compare(a: Outcomes, b: Outcomes, metric: Metric, resamples: int = 1000) -> Comparison:
    """Compare runs on the same ground truth. Raises ValueError where images, classes or objects differ."""
    if a.image_ids != b.image_ids or a.class_names != b.class_names or not np.array_equal(a.objects[1], b.objects[1]):
        raise ValueError("runs to compare must be of the same images, classes and objects")
    before, after = average_precisions(a, metric), average_precisions(b, metric)
    samples = [resample_precisions(each, metric, resamples) for each in (a, b)]
    errors, _ = standard_errors(samples[1] - samples[0])
    (found_before, false_before), (found_after, false_after) = _at_best_thresholds(a), _at_best_thresholds(b)
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


def _at_best_thresholds(outcomes: Outcomes) -> tuple[Mask, Rows]:
    """Return the objects found, (M,) bool, and the number of false detections in each image."""
    kept = outcomes.scores >= best_thresholds(outcomes)[outcomes.labels]
    found = outcomes.wanted & np.append(kept, False)[outcomes.found_by]
    return found, np.bincount(outcomes.images[kept & outcomes.false], minlength=len(outcomes.image_ids))
