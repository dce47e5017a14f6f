"""What a threshold on the score does: precision, recall and F1 by class, and who is taken for whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.matching import overlapping_pairs
from detector.evaluation.outcomes import Outcomes, Rows

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ThresholdCurve:
    """What is left above each threshold, from the highest one down, (T,) each; thresholds are scores that occur.

    n_true, n_false: detections that score at least the threshold. n_objects: objects to be found.
    """

    thresholds: Values
    n_true: Rows
    n_false: Rows
    n_objects: int

    @property
    def precision(self) -> Values:
        """The share of true ones."""
        return self.n_true / np.maximum(self.n_true + self.n_false, 1)

    @property
    def recall(self) -> Values:
        """The share of objects that are found; 0 where there are none."""
        return self.n_true / max(self.n_objects, 1)

    @property
    def f1(self) -> Values:
        """The harmonic mean of both."""
        return 2 * self.n_true / np.maximum(self.n_true + self.n_false + self.n_objects, 1)

    @property
    def best(self) -> OperatingPoint:
        """Where F1 is highest, of equal ones the highest threshold; without detections, a threshold above all."""
        if not len(self.thresholds):
            return OperatingPoint(float("inf"), 0, 0, self.n_objects)
        row = int(np.argmax(self.f1))
        return OperatingPoint(
            float(self.thresholds[row]), int(self.n_true[row]), int(self.n_false[row]), self.n_objects
        )


@dataclass(frozen=True)
class OperatingPoint:
    """Counts at a threshold: detections that score at least as much are taken."""

    threshold: float
    n_true: int
    n_false: int
    n_objects: int

    @property
    def n_missed(self) -> int:
        """Objects that no detection above the threshold found."""
        return self.n_objects - self.n_true

    @property
    def precision(self) -> float:
        """The share of true ones; 0 without any."""
        return self.n_true / max(self.n_true + self.n_false, 1)

    @property
    def recall(self) -> float:
        """The share of objects that are found; 0 where there are none."""
        return self.n_true / max(self.n_objects, 1)

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.n_true / max(self.n_true + self.n_false + self.n_objects, 1)


def threshold_curve(outcomes: Outcomes, label: int | None = None) -> ThresholdCurve:
    """The curve of one class, or of all classes with one threshold for them all."""
    rows = slice(None) if label is None else outcomes.of_class(label)
    n_wanted = outcomes.n_wanted()
    counted = outcomes.counted[rows]
    scores, true = outcomes.scores[rows][counted], outcomes.true[rows][counted]
    order = np.argsort(-scores, kind="stable")
    scores, n_true = scores[order], np.cumsum(true[order], dtype=np.int64)
    # equal scores are taken together
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    n_objects = int(n_wanted.sum() if label is None else n_wanted[label])
    return ThresholdCurve(scores[last], n_true[last], last + 1 - n_true[last], n_objects)


@dataclass(frozen=True, eq=False)
class Confusion:
    """Pairs of an object and what it was taken for, above a threshold.

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
    """Who is taken for whom by the detections that score at least ``threshold``.

    True detections stand on the diagonal, as average precision counts them. Of the others and the objects that are
    left, those that overlap by at least ``min_iou`` are paired, the largest IoU first; what is left over is paired
    with background. Difficult objects, and detections on them, are left out.
    """
    taken = outcomes.counted & (outcomes.scores >= threshold)
    hits = np.flatnonzero(taken & outcomes.true)
    left_objects = outcomes.wanted
    left_objects[outcomes.nearest[hits]] = False
    others = np.flatnonzero(taken & ~outcomes.true)
    candidates = np.flatnonzero(left_objects)
    detection, row, iou = overlapping_pairs(
        outcomes.images[others], outcomes.boxes[others], outcomes.objects.take(candidates)
    )
    pairs = [(outcomes.nearest[hits], hits)]
    left_detections = np.zeros(len(taken), np.bool_)
    left_detections[others] = True
    overlapping = np.flatnonzero(iou >= min_iou)
    for pair in overlapping[np.argsort(-iou[overlapping], kind="stable")]:
        d, o = others[detection[pair]], candidates[row[pair]]
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
