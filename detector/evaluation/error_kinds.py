"""Classify errors into the six kinds of TIDE, and measure how much mAP each kind costs.

D. Bolya, S. Foley, J. Hays, J. Hoffman, TIDE: A General Toolbox for Identifying Object Detection Errors (2020). An
oracle repairs each kind alone; the cost of the kind is the gain in mAP. Gains do not add up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.matching import overlapping_pairs
from detector.evaluation.outcomes import Mask, Outcomes, Rows
from detector.evaluation.thresholds import best_thresholds
from detector.evaluation.voc import Metric, average_precisions, mean_of

FALSE_KINDS = ("class", "location", "both", "duplicate", "background")
"""Kinds of false detections; the index is the number of the kind."""
KINDS = (*FALSE_KINDS, "missed")
CLASS, LOCATION, BOTH, DUPLICATE, BACKGROUND = range(len(FALSE_KINDS))
TRUE = -1

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1


class Neighbors(NamedTuple):
    """Wanted objects, of its own class and of others, that each of (N,) detections overlaps most; -1 for none."""

    own: Rows
    own_ious: NDArray[np.float64]
    other: Rows
    other_ious: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ErrorKinds:
    """The kind of every false detection, and the missed objects.

    kinds: (N,) int64, an index into FALSE_KINDS; -1 for detections that are true or do not count.
    targets: (N,) int64, the object that a detection of kind "class" or "location" nearly found; -1 for others.
    missed: (M,) bool, objects that no detection found, and that are no target.
    neighbors: the objects that each detection overlaps most.
    """

    kinds: Rows
    targets: Rows
    missed: Mask
    neighbors: Neighbors

    def about(self) -> tuple[Rows, NDArray[np.float64]]:
        """Return the target or else the nearest object of each detection, (N,), -1 for none; and their IoU, (N,)."""
        near = self.neighbors
        own_first = near.own_ious >= near.other_ious
        rows = np.where(self.targets >= 0, self.targets, np.where(own_first, near.own, near.other))
        return rows, np.where(rows == near.own, near.own_ious, near.other_ious)

    def counts(self) -> dict[str, int]:
        """Count the errors of each kind."""
        found = np.bincount(self.kinds[self.kinds >= 0], minlength=len(FALSE_KINDS)).tolist()
        return dict(zip(KINDS, [*found, int(self.missed.sum())], strict=True))


def find_error_kinds(outcomes: Outcomes) -> ErrorKinds:
    """Classify all false detections.

    By the largest IoU with an object of its class and of another one, neither difficult, a detection's kind is the
    first that fits: "location" (own: at least 0.1, below 0.5), "class" (other: at least 0.5), "duplicate" (own: at
    least 0.5), "background" (none above 0.1), "both". An IoU of exactly 0.5 with its own class makes a duplicate
    here; TIDE's program calls it a location.
    """
    near = find_neighbors(outcomes)
    conditions = [
        (near.own_ious >= BACKGROUND_IOU) & (near.own_ious < FOREGROUND_IOU),
        near.other_ious >= FOREGROUND_IOU,
        near.own_ious >= FOREGROUND_IOU,
        near.other_ious <= BACKGROUND_IOU,
    ]
    kinds = np.select(conditions, [LOCATION, CLASS, DUPLICATE, BACKGROUND], BOTH)
    kinds = np.where(outcomes.false, kinds, TRUE)
    targets = np.select([kinds == LOCATION, kinds == CLASS], [near.own, near.other], -1)
    missed = outcomes.missed
    missed[targets[targets >= 0]] = False
    return ErrorKinds(kinds, targets, missed, near)


def find_neighbors(outcomes: Outcomes) -> Neighbors:
    """Find the objects, none of them difficult, that each detection overlaps most."""
    wanted = np.flatnonzero(outcomes.wanted)
    objects = outcomes.objects.take(wanted)
    detection, row, iou = overlapping_pairs(outcomes.images, outcomes.boxes, objects)
    same = outcomes.labels[detection] == objects.labels[row]

    def nearest_of(pairs: Mask) -> tuple[Rows, NDArray[np.float64]]:
        ious = np.zeros(len(outcomes.images))
        np.maximum.at(ious, detection[pairs], iou[pairs])
        nearest = np.full(len(outcomes.images), -1, np.int64)
        best = np.flatnonzero(pairs & (iou == ious[detection]) & (iou > 0))[::-1]
        nearest[detection[best]] = wanted[row[best]]
        return nearest, ious

    return Neighbors(*nearest_of(same), *nearest_of(~same))


def lost_precision(outcomes: Outcomes, errors: ErrorKinds, metric: Metric) -> dict[str, float]:
    """Return the cost of each kind: the gain in mAP, as a fraction of 1, of repairing it alone; 0 for no loss.

    Of the errors of kinds "class" and "location" about an object that nothing found, the best becomes true and the
    others are removed; errors about a found object, and of the other kinds, are all removed. Missed objects are
    removed from the ground truth; a class that is left with none then counts as 1.
    """
    base = mean_of(average_precisions(outcomes, metric))
    lost = {
        kind: mean_of(average_precisions(_repair(outcomes, errors, number), metric)) - base
        for number, kind in enumerate(FALSE_KINDS)
    }
    lost[KINDS[-1]] = lost_by_missing(outcomes, errors.missed, metric)
    return {kind: max(value, 0.0) if value == value else 0.0 for kind, value in lost.items()}


def lost_by_missing(outcomes: Outcomes, missed: Mask, metric: Metric) -> float:
    """Return the mAP, as a fraction of 1, that is lost by missing these (M,) objects, which nothing found."""
    before = average_precisions(outcomes, metric)
    gone = np.bincount(outcomes.objects.labels[missed], minlength=len(before))
    left = outcomes.n_wanted() - gone
    after = average_precisions(outcomes, metric, n_objects=left)
    after = np.where((left == 0) & (gone > 0), 1.0, after)
    gain = mean_of(after) - mean_of(before)
    return max(gain, 0.0) if gain == gain else 0.0


def _repair(outcomes: Outcomes, errors: ErrorKinds, kind: int) -> Outcomes:
    """Return the outcomes without the errors of a kind."""
    wrong = np.flatnonzero(errors.kinds == kind)
    counted, true, labels = outcomes.counted.copy(), outcomes.true.copy(), outcomes.labels.copy()
    counted[wrong] = False
    if kind in (CLASS, LOCATION):
        best = _best_of_targets(outcomes, errors)
        repaired = best[errors.kinds[best] == kind]
        counted[repaired] = True
        true[repaired] = True
        labels[repaired] = outcomes.objects.labels[errors.targets[repaired]]
    order = np.lexsort([-outcomes.scores, labels])
    return replace(
        outcomes, labels=labels[order], scores=outcomes.scores[order], true=true[order], counted=counted[order]
    )


def _best_of_targets(outcomes: Outcomes, errors: ErrorKinds) -> Rows:
    """Return, for each object that nothing found, the best of the detections that nearly did, of both kinds."""
    about = np.flatnonzero(errors.targets >= 0)
    about = about[outcomes.found_by[errors.targets[about]] < 0]
    about = outcomes.best_first(about)
    _, firsts = np.unique(errors.targets[about], return_index=True)
    return about[firsts]


class LabelIssues(NamedTuple):
    """Labels to check, the most confident detections first.

    unlabeled: rows of confident detections that overlap no object, not even a difficult one.
    contradicted: rows of objects that are missed, with the rows of confident detections of another class on them.
    """

    unlabeled: Rows
    contradicted: Rows
    contradicted_by: Rows


def find_label_issues(outcomes: Outcomes, errors: ErrorKinds) -> LabelIssues:
    """Find objects that may lack a label or have a wrong one, by the detections at or above the best-F1 thresholds.

    Scores of different classes are compared as they are.
    """
    confident = outcomes.scores >= best_thresholds(outcomes)[outcomes.labels]
    near_any = np.zeros(len(outcomes.images))
    detection, _, iou = overlapping_pairs(outcomes.images, outcomes.boxes, outcomes.objects)
    np.maximum.at(near_any, detection, iou)
    unlabeled = np.flatnonzero(confident & (errors.kinds == BACKGROUND) & (near_any <= 0.1))
    near = errors.neighbors
    about = np.append(outcomes.missed, False)[near.other]
    against = np.flatnonzero(confident & outcomes.false & about & (near.other_ious >= FOREGROUND_IOU))
    against = outcomes.best_first(against)
    _, firsts = np.unique(near.other[against], return_index=True)
    against = against[np.sort(firsts)]
    return LabelIssues(outcomes.best_first(unlabeled), near.other[against], against)
