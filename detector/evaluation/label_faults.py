"""Where the labels, rather than the detector, may be wrong."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detector.evaluation.error_kinds import BACKGROUND, FOREGROUND_IOU, ErrorKinds
from detector.evaluation.matching import overlapping_pairs
from detector.evaluation.outcomes import Outcomes, Rows
from detector.evaluation.thresholds import threshold_curve


class LabelFaults(NamedTuple):
    """Places to look at, the most confident detections first.

    unlabelled: rows of confident detections that overlap no object, not even a difficult one.
    contradicted: rows of objects that are missed, with the rows of confident detections of another class on them.
    """

    unlabelled: Rows
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
    unlabelled = np.flatnonzero(confident & (errors.kinds == BACKGROUND) & (near_any <= 0.1))
    near = errors.neighbours
    about = np.append(outcomes.missed, False)[near.other]
    against = np.flatnonzero(confident & outcomes.false & about & (near.other_ious >= FOREGROUND_IOU))
    against = against[np.argsort(-outcomes.scores[against], kind="stable")]
    _, firsts = np.unique(near.other[against], return_index=True)
    against = against[np.sort(firsts)]
    order = np.argsort(-outcomes.scores[unlabelled], kind="stable")
    return LabelFaults(unlabelled[order], near.other[against], against)
