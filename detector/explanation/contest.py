"""The proposals of an image in the running as objects of one class, up to the suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, area, iou
from detector.explanation.candidates import make_candidates
from detector.features.encoder import FeatureMaps
from detector.heads.suppression import nms
from detector.joint_detection import AnyDetector

Input = tuple[AnyDetector, FeatureMaps, Boxes, int, NDArray[np.float32]]
"""A detector, the maps of the image, proposals ``(R, 4)``, the label of the class, its scores ``(R,)`` of these."""


@dataclass(frozen=True, eq=False)
class Contest:
    """All proposals ``(n, 4)`` of the detectors that know a class, and how far each came.

    models: ``(n,)`` int64, whose proposal each is.
    first_scores: ``(n,)`` what they scored where they were.
    running: ``(n,)`` bool, whether that was enough to be looked at further.
    boxes, scores: ``(n, 4)`` and ``(n,)``, where they ended and their mean score; of the others, what they began with.
    early: whether each model suppresses its proposals before it moves them, above which IoU; None where not.
    nms_iou: above which IoU moved boxes are suppressed.
    min_score: the least score of a detection.
    """

    models: NDArray[np.int64]
    proposals: Boxes
    first_scores: NDArray[np.float32]
    running: NDArray[np.bool_]
    boxes: Boxes
    scores: NDArray[np.float32]
    early: Sequence[float | None]
    nms_iou: float
    min_score: float

    def rival(self, row: int) -> tuple[Boxes, float, float] | None:
        """Box and score of the stronger one that suppressed a proposal, and their IoU; None where none did."""
        rows = np.flatnonzero(self.running)
        for model, limit in enumerate(self.early):
            if limit is None:
                continue
            own = rows[self.models[rows] == model]
            kept = own[nms(self.proposals[own], self.scores[own], limit)]
            if self.models[row] == model and row not in kept:
                return self._rival_among(kept, row, self.proposals)
            rows = np.setdiff1d(rows, np.setdiff1d(own, kept))
        rows = rows[area(self.boxes[rows]) > 0]
        kept = rows[nms(self.boxes[rows], self.scores[rows], self.nms_iou)]
        return None if row in kept or row not in rows else self._rival_among(kept, row, self.boxes)

    def _rival_among(self, kept: NDArray[np.int64], row: int, boxes: Boxes) -> tuple[Boxes, float, float]:
        stronger = kept[self.scores[kept] >= self.scores[row]]
        overlaps = iou(boxes[stronger], boxes[row][None])[:, 0]
        rival = stronger[overlaps.argmax()]
        return boxes[rival], float(self.scores[rival]), float(overlaps.max())


def hold_contest(inputs: Sequence[Input], nms_iou: float, min_score: float) -> Contest:
    """The contest of the proposals of all ``inputs``, which are of one class."""
    parts: list[tuple[Any, ...]] = []
    for detector, maps, proposals, label, first_scores in inputs:
        running = first_scores >= min(min_score, detector.settings.min_score)
        candidates = make_candidates(detector, maps, proposals[running], label, first_scores[running])
        boxes, scores = proposals.copy(), first_scores.copy()
        boxes[running], scores[running] = candidates.boxes, candidates.scores
        parts.append((np.full(len(proposals), len(parts)), proposals, first_scores, running, boxes, scores))
    models, proposals, first, running, boxes, scores = (np.concatenate(each) for each in zip(*parts, strict=True))
    early = [
        None if detector.regressors is None or detector.settings.refinements else detector.settings.nms_iou
        for detector, *_ in inputs
    ]
    return Contest(models, proposals, first, running, boxes, scores, early, nms_iou, min_score)
