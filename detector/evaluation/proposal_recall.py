"""Measure how many objects of a data set its proposals cover: no detector finds the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, iou
from detector.datasets.dataset import Annotation
from detector.runtime.progress import Progress, no_progress

IOUS = (0.5, 0.7)
LOW_RECALL = 0.9
"""Recall at an IoU of 0.5 below which proposals limit a detector."""
_MAX_IMAGES = 24


class ProposalRecall(NamedTuple):
    """Recall of proposals on a sample of images.

    ranks: ``(M, 2)`` float64, number of proposals after which each of M objects is covered at the IoUs of `IOUS`;
        infinite where it never is.
    """

    ranks: NDArray[np.float64]

    def at(self, min_iou: float, count: float = np.inf) -> float:
        """Return the fraction of objects covered by the first ``count`` proposals; 1 without objects."""
        ranks = self.ranks[:, IOUS.index(min_iou)]
        covered = (ranks <= count) & np.isfinite(ranks)
        return float(covered.mean()) if len(ranks) else 1.0

    def first(self, count: int) -> ProposalRecall:
        """Return the recall of the first ``count`` proposals."""
        return ProposalRecall(np.where(self.ranks <= count, self.ranks, np.inf))

    @property
    def is_low(self) -> bool:
        """True where proposals limit a detector more than its training does."""
        return self.at(IOUS[0]) < LOW_RECALL

    @property
    def consequence(self) -> str:
        """Consequence of the recall for the detector, in words."""
        return f"{100 * (1 - self.at(IOUS[0])):.0f} % of the objects cannot be found, because no proposal covers them"

    def __str__(self) -> str:
        half, tight = (f"{100 * self.at(each):.0f} %" for each in IOUS)
        return f"which cover {half} of the objects at an IoU of 0.5 and {tight} at 0.7"


def measure_recall(
    boxes_of: Callable[[Annotation], Boxes], annotations: Sequence[Annotation], progress: Progress = no_progress
) -> ProposalRecall:
    """Measure the recall of the boxes that ``boxes_of`` returns, best first, on a sample of the images with objects.

    The sample is random, but always the same. Difficult objects and images that cannot be read are left out.
    """
    with_objects = [each for each in annotations if not each.difficult.all()]
    rows = np.sort(np.random.default_rng(0).permutation(len(with_objects))[:_MAX_IMAGES])
    ranks = [np.empty((0, len(IOUS)))]
    for each in progress([with_objects[row] for row in rows], "recall of proposals"):
        try:
            proposals = boxes_of(each)
        except (OSError, ValueError):  # reported where its features are computed
            continue
        overlaps = iou(proposals, each.boxes[~each.difficult])
        ranks.append(np.stack([_first(overlaps >= min_iou) for min_iou in IOUS], axis=1))
    return ProposalRecall(np.concatenate(ranks))


def _first(covers: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the 1-based number of the first row that is true in each column of ``(R, M)``; infinite for none."""
    if not len(covers):
        return np.full(covers.shape[1], np.inf)
    return np.where(covers.any(0), covers.argmax(0) + 1.0, np.inf)
