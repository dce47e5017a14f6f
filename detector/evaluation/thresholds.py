"""Precision, recall and F1 at every score threshold, and the confusion matrix at one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.matching import overlapping_pairs
from detector.evaluation.outcomes import Outcomes, Rows

Values = NDArray[np.float64]


class _Rates:
    """Precision, recall and F1 of counts, which are numbers or arrays; 0 where there is nothing to divide by."""

    n_true: Any
    n_false: Any
    n_objects: int

    @property
    def precision(self) -> Any:
        """Fraction of true detections."""
        return self.n_true / np.maximum(self.n_true + self.n_false, 1)

    @property
    def recall(self) -> Any:
        """Fraction of objects that are found."""
        return self.n_true / max(self.n_objects, 1)

    @property
    def f1(self) -> Any:
        """Harmonic mean of precision and recall."""
        return 2 * self.n_true / np.maximum(self.n_true + self.n_false + self.n_objects, 1)


@dataclass(frozen=True)
class OperatingPoint(_Rates):
    """Counts at a threshold; detections with at least that score are kept."""

    threshold: float
    n_true: int
    n_false: int
    n_objects: int

    @property
    def n_missed(self) -> int:
        """Number of objects that no detection above the threshold found."""
        return self.n_objects - self.n_true


@dataclass(frozen=True, eq=False)
class ThresholdCurve(_Rates):
    """Counts at each threshold, from the highest one down, (T,) each; thresholds are scores that occur.

    n_true, n_false: detections with at least that score. n_objects: objects to be found.
    """

    thresholds: Values
    n_true: Rows
    n_false: Rows
    n_objects: int

    @property
    def best(self) -> OperatingPoint:
        """Point of the best F1; ties take the highest threshold, and no detections an infinite one."""
        if not len(self.thresholds):
            return OperatingPoint(float("inf"), 0, 0, self.n_objects)
        row = int(np.argmax(self.f1))
        counts = int(self.n_true[row]), int(self.n_false[row])
        return OperatingPoint(float(self.thresholds[row]), *counts, self.n_objects)


def threshold_curve(outcomes: Outcomes, label: int | None = None) -> ThresholdCurve:
    """Compute the curve of one class, or of all classes with one common threshold."""
    rows = slice(None) if label is None else outcomes.of_class(label)
    n_wanted = outcomes.n_wanted()
    counted = outcomes.counted[rows]
    scores, true = outcomes.scores[rows][counted], outcomes.true[rows][counted]
    order = np.argsort(-scores, kind="stable")
    scores, n_true = scores[order], np.cumsum(true[order], dtype=np.int64)
    # equal scores are kept or dropped together
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    n_objects = int(n_wanted.sum() if label is None else n_wanted[label])
    return ThresholdCurve(scores[last], n_true[last], last + 1 - n_true[last], n_objects)


def best_thresholds(outcomes: Outcomes) -> Values:
    """Return the threshold of the best F1 of each class, (K,) float64; infinite for classes without detections."""
    classes = range(len(outcomes.class_names))
    return np.array([threshold_curve(outcomes, label).best.threshold for label in classes], np.float64)


@dataclass(frozen=True, eq=False)
class Confusion:
    """Pairs of an object and its prediction, above a threshold.

    objects, detections: (P,) int64 rows; -1 for background: an object that was missed, a detection of nothing.
    true_labels, predicted_labels: (P,) int64; the number of classes stands for background.
    matrix: (K + 1, K + 1) int64, a row for each true class, a column for each predicted one, background last.
    """

    threshold: float
    objects: Rows
    detections: Rows
    true_labels: Rows
    predicted_labels: Rows
    matrix: Rows


def find_confusion(outcomes: Outcomes, threshold: float, min_iou: float = 0.5) -> Confusion:
    """Compute the confusion matrix of the detections with a score of at least ``threshold``.

    True detections, by the rule of average precision, are on the diagonal. The other detections and the remaining
    objects are paired where they overlap by at least ``min_iou``, the largest IoU first; the rest is paired with
    background. Difficult objects, and detections on them, are left out.
    """
    kept = outcomes.counted & (outcomes.scores >= threshold)
    hits = np.flatnonzero(kept & outcomes.true)
    left_objects = outcomes.wanted
    left_objects[outcomes.nearest[hits]] = False
    others = np.flatnonzero(kept & ~outcomes.true)
    remaining = np.flatnonzero(left_objects)
    detection, row, iou = overlapping_pairs(
        outcomes.images[others], outcomes.boxes[others], outcomes.objects.take(remaining)
    )
    pairs = [(outcomes.nearest[hits], hits)]
    left_detections = np.zeros(len(kept), np.bool_)
    left_detections[others] = True
    overlapping = np.flatnonzero(iou >= min_iou)
    for pair in overlapping[np.argsort(-iou[overlapping], kind="stable")]:
        d, o = others[detection[pair]], remaining[row[pair]]
        if left_detections[d] and left_objects[o]:
            left_detections[d] = left_objects[o] = False
            pairs.append((np.array([o]), np.array([d])))
    missed, alone = np.flatnonzero(left_objects), np.flatnonzero(left_detections)
    pairs += [(missed, np.full(len(missed), -1)), (np.full(len(alone), -1), alone)]
    objects, detections = (np.concatenate(column).astype(np.int64) for column in zip(*pairs, strict=True))
    n = len(outcomes.class_names)
    true_labels = np.append(outcomes.objects.labels, n)[objects]
    predicted = np.append(outcomes.labels, n)[detections]
    matrix = np.zeros((n + 1, n + 1), np.int64)
    np.add.at(matrix, (true_labels, predicted), 1)
    return Confusion(threshold, objects, detections, true_labels, predicted, matrix)
