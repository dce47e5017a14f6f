"""Candidates of one class with the way that they went: what a detector makes of its proposals before suppression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, area, clip, decode_deltas, iou
from detector.features.encoder import FeatureMaps
from detector.heads.refinement import Refiner
from detector.pipeline import Detector

_EQUAL = 1e-4
_ROUNDED = 0.05
"""Half precision on an accelerator may round otherwise when it computes fewer rows at once."""
_NEAR = 0.2


@dataclass(frozen=True, eq=False)
class Candidates:
    """Boxes of an image that a detector looks at as objects of one class, each with its way.

    proposals: ``(n, 4)`` where they began.
    positions: ``(n, P, 4)`` where they were scored; the score is the mean over them.
    boxes: ``(n, 4)`` where they ended.
    scores: ``(n,)`` float32.
    """

    proposals: Boxes
    positions: Boxes
    boxes: Boxes
    scores: NDArray[np.float32]

    def find(self, score: float, box: Boxes, tolerance: float) -> int | None:
        """Row of the candidate with this score, of several the one that overlaps the ``(4,)`` box most."""
        differences = np.abs(self.scores - score)
        overlaps = iou(self.boxes, box[None])[:, 0]
        possible = np.flatnonzero((differences <= tolerance) & (overlaps > 0))
        if not len(possible):
            return None
        # scores of equal features differ by rounding at most
        order = np.lexsort((-overlaps[possible], np.round(differences[possible], 5)))
        return int(possible[order[0]])


def make_candidates(
    detector: Detector, maps: FeatureMaps, boxes: Boxes, label: int, scores: NDArray[np.float32] | None = None
) -> Candidates:
    """What `Detector.candidates` makes of ``(n, 4)`` proposals in one class, whatever they score.

    ``scores`` ``(n,)``: what they score where they are, if it is known.
    """
    if scores is None:
        scores = detector.encoder.apply(detector.decision_function, maps, detector.encoder.windows(maps, boxes))[
            :, label
        ]
    labels, rounds = np.full(len(boxes), label, np.int64), detector.config.detection.refinements
    if detector.regressors is None:
        return Candidates(boxes, boxes[:, None], boxes, scores)
    if rounds:
        refiner = Refiner(detector.encoder, detector.move, detector.score, rounds)
        positions, scores = refiner.refine(maps, boxes, labels, scores)
        return Candidates(boxes, np.stack(positions, axis=1), positions[-1], scores)
    pooled = detector.encoder.pool(maps, detector.encoder.windows(maps, boxes))
    moved = clip(decode_deltas(boxes, detector.move(pooled, labels)), *maps.image_size)
    return Candidates(boxes, boxes[:, None], moved, scores)


def positions_of(
    detector: Detector, maps: FeatureMaps, boxes: Boxes, label: int, box: Boxes, score: float
) -> Boxes | None:
    """Positions ``(P, 4)`` of the candidate that became a detection; None where there is none of its score.

    ``boxes`` are the proposals, ``box`` ``(4,)`` and ``score`` the detection's. A vote moves a detection away from its
    candidate, but leaves the score as it is, by which it is known.
    """
    # it lies near the proposal that it came from, as a rule: the others are scored only where that fails
    near = iou(boxes, box[None])[:, 0] >= _NEAR
    for rows, tolerance in ((near, _EQUAL), (np.ones(len(boxes), bool), _ROUNDED)):
        candidates = make_candidates(detector, maps, boxes[rows], label)
        if (row := candidates.find(score, box, tolerance)) is not None:
            return candidates.positions[row]
    return None
