"""Measure the recall of proposals: how well the best of the first n proposals covers each object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, iou
from detector.evaluation.error_kinds import ErrorKinds, lost_by_missing
from detector.evaluation.outcomes import Mask, Outcomes
from detector.evaluation.voc import Metric

NUMBERS = (1, 3, 10, 30, 100, 300, 1000, 2000, 5000)
"""Numbers of proposals at which recall is measured."""
COVERED_IOU = 0.5


class Coverage(NamedTuple):
    """Coverage of M objects.

    best: (M, len(NUMBERS)) float32, IoU of each object with the best of the first NUMBERS proposals of its image.
    n_proposals: (images,) int64.
    """

    best: NDArray[np.float32]
    n_proposals: NDArray[np.int64]

    def covered(self) -> Mask:
        """Return the objects, (M,) bool, that some proposal overlaps enough to find them."""
        return self.best[:, -1] >= COVERED_IOU

    def recall(self, wanted: Mask, min_iou: float) -> NDArray[np.float64]:
        """Return the fraction of wanted objects that the first NUMBERS proposals cover by ``min_iou``; NaN for none."""
        best = self.best[wanted]
        return (best >= min_iou).mean(axis=0) if len(best) else np.full(len(NUMBERS), np.nan)


def image_coverage(proposals: Boxes, objects: Boxes) -> Coverage:
    """Return the coverage of the (G, 4) objects of one image by its (R, 4) proposals, best first."""
    best = np.zeros((len(objects), len(NUMBERS)), np.float32)
    if len(proposals):
        running = np.maximum.accumulate(iou(proposals, objects.astype(np.float32)), axis=0)
        last = np.minimum(NUMBERS, len(proposals)) - 1
        best[:] = running[last].T
        best[:, -1] = running[-1]
    return Coverage(best, np.array([len(proposals)]))


def join_coverage(parts: Sequence[Coverage]) -> Coverage:
    """Join the coverage of one or more images, in order."""
    return Coverage(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class MissedReason(NamedTuple):
    """A reason for missed objects, (M,) bool, and the mAP that they cost, as a fraction of 1."""

    name: str
    lost: float
    objects: Mask


def missed_reasons(
    outcomes: Outcomes, errors: ErrorKinds, coverage: Coverage, metric: Metric
) -> tuple[MissedReason, MissedReason]:
    """Split missed objects into those that no proposal covered, and those covered by proposals with low scores."""
    covered = coverage.covered()
    parts = (("no proposal covered it", errors.missed & ~covered), ("covered, but scored low", errors.missed & covered))
    uncovered, low = (MissedReason(name, lost_by_missing(outcomes, rows, metric), rows) for name, rows in parts)
    return uncovered, low
