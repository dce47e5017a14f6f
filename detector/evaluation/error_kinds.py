"""What kind of error costs how much: the six kinds of TIDE, and why objects were missed.

Bolya, Foley, Hays, Hoffman: TIDE, A General Toolbox for Identifying Object Detection Errors (2020). Each kind is
repaired alone, as an oracle would; what mAP gains by it is what the kind costs. Gains do not add up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.matching import overlapping_pairs
from detector.evaluation.outcomes import Mask, Outcomes, Rows, mean_of, precisions_of
from detector.evaluation.thresholds import threshold_curve
from detector.evaluation.voc import Metric

FALSE_KINDS = ("class", "location", "both", "duplicate", "background")
"""Kinds of false detections, by number."""
KINDS = (*FALSE_KINDS, "missed")
CLASS, LOCATION, BOTH, DUPLICATE, BACKGROUND = range(len(FALSE_KINDS))
TRUE = -1

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1


class Neighbors(NamedTuple):
    """The wanted object of its own, and of another, class that each of (N,) detections overlaps most; -1 for none."""

    own: Rows
    own_ious: NDArray[np.float64]
    other: Rows
    other_ious: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ErrorKinds:
    """The kind of every false detection, and the objects that none of them nearly found.

    kinds: (N,) int64, an index into FALSE_KINDS; -1 for detections that are true or do not count.
    targets: (N,) int64, the object that a detection of kind "class" or "location" would have found; -1 for others.
    missed: (M,) bool, objects that no detection found, and none of those kinds was about.
    neighbors: what each detection overlaps.
    """

    kinds: Rows
    targets: Rows
    missed: Mask
    neighbors: Neighbors

    def about(self) -> tuple[Rows, NDArray[np.float64]]:
        """The object that each false detection is about, its target or the nearest, -1 for none; and their IoU."""
        near = self.neighbors
        own_first = near.own_ious >= near.other_ious
        rows = np.where(self.targets >= 0, self.targets, np.where(own_first, near.own, near.other))
        return rows, np.where(rows == near.own, near.own_ious, near.other_ious)

    def counts(self) -> dict[str, int]:
        """The number of errors by kind."""
        found = np.bincount(self.kinds[self.kinds >= 0], minlength=len(FALSE_KINDS)).tolist()
        return dict(zip(KINDS, [*found, int(self.missed.sum())], strict=True))


def find_error_kinds(outcomes: Outcomes) -> ErrorKinds:
    """Tell the kinds of all false detections.

    By the largest IoU with an object of its class and of another one, both not difficult, a detection's kind is the
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
    """What each detection overlaps, of objects that are not difficult."""
    wanted = np.flatnonzero(outcomes.wanted)
    objects = outcomes.objects.take(wanted)
    detection, row, iou = overlapping_pairs(outcomes.images, outcomes.boxes, objects)
    same = outcomes.labels[detection] == objects.labels[row]

    def nearest_of(chosen: Mask) -> tuple[Rows, NDArray[np.float64]]:
        ious = np.zeros(len(outcomes.images))
        np.maximum.at(ious, detection[chosen], iou[chosen])
        nearest = np.full(len(outcomes.images), -1, np.int64)
        best = np.flatnonzero(chosen & (iou == ious[detection]) & (iou > 0))[::-1]
        nearest[detection[best]] = wanted[row[best]]
        return nearest, ious

    return Neighbors(*nearest_of(same), *nearest_of(~same))


def lost_precision(outcomes: Outcomes, errors: ErrorKinds, metric: Metric) -> dict[str, float]:
    """What each kind costs: mAP as a fraction of 1 that repairing it alone would gain; 0 where nothing is lost.

    Of the errors of kinds "class" and "location" about an object that nothing found, the best becomes true and the
    others go; about a found object, and of the other kinds, all go. Missed objects are taken out of the ground truth;
    a class that is left with none then counts as 1.
    """
    base = mean_of(outcomes.average_precisions(metric))
    lost = {}
    for number, kind in enumerate(FALSE_KINDS):
        repaired = _repair(outcomes, errors, number)
        lost[kind] = (
            mean_of(precisions_of(repaired, repaired.true, repaired.counted, outcomes.n_wanted(), metric)) - base
        )
    lost[KINDS[-1]] = lost_by_missing(outcomes, errors.missed, metric)
    return {kind: max(value, 0.0) if value == value else 0.0 for kind, value in lost.items()}


def lost_by_missing(outcomes: Outcomes, missed: Mask, metric: Metric) -> float:
    """mAP as a fraction of 1 that is lost by missing these (M,) objects, none of which was found."""
    before = outcomes.average_precisions(metric)
    gone = np.bincount(outcomes.objects.labels[missed], minlength=len(before))
    left = outcomes.n_wanted() - gone
    after = precisions_of(outcomes, outcomes.true, outcomes.counted, left, metric)
    after = np.where((left == 0) & (gone > 0), 1.0, after)
    gain = mean_of(after) - mean_of(before)
    return max(gain, 0.0) if gain == gain else 0.0


def _repair(outcomes: Outcomes, errors: ErrorKinds, kind: int) -> Outcomes:
    """The same detections without the errors of a kind."""
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
    """For each object that nothing found, the best of the detections that nearly did, of both kinds."""
    about = np.flatnonzero(errors.targets >= 0)
    about = about[outcomes.found_by[errors.targets[about]] < 0]
    about = about[np.argsort(-outcomes.scores[about], kind="stable")]
    _, firsts = np.unique(errors.targets[about], return_index=True)
    return about[firsts]


class LabelFaults(NamedTuple):
    """Places to look at, the most confident detections first.

    unlabeled: rows of confident detections that overlap no object, not even a difficult one.
    contradicted: rows of objects that are missed, with the rows of confident detections of another class on them.
    """

    unlabeled: Rows
    contradicted: Rows
    contradicted_by: Rows


def find_label_faults(outcomes: Outcomes, errors: ErrorKinds) -> LabelFaults:
    """Detections are confident that score at least the threshold of the best F1 of their class.

    Scores of different classes are ordered as they are.
    """
    thresholds = [threshold_curve(outcomes, label).best.threshold for label in range(len(outcomes.class_names))]
    confident = outcomes.scores >= np.array(thresholds, np.float64)[outcomes.labels]
    near_any = np.zeros(len(outcomes.images))
    detection, _, iou = overlapping_pairs(outcomes.images, outcomes.boxes, outcomes.objects)
    np.maximum.at(near_any, detection, iou)
    unlabeled = np.flatnonzero(confident & (errors.kinds == BACKGROUND) & (near_any <= 0.1))
    near = errors.neighbors
    about = np.append(outcomes.missed, False)[near.other]
    against = np.flatnonzero(confident & outcomes.false & about & (near.other_ious >= FOREGROUND_IOU))
    against = against[np.argsort(-outcomes.scores[against], kind="stable")]
    _, firsts = np.unique(near.other[against], return_index=True)
    against = against[np.sort(firsts)]
    order = np.argsort(-outcomes.scores[unlabeled], kind="stable")
    return LabelFaults(unlabeled[order], near.other[against], against)
