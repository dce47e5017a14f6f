"""Candidates of one class with the way that they went: what a detector makes of its proposals before suppression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, clip, decode_deltas, iou
from detector.features.encoder import FeatureMaps, Features
from detector.heads.refinement import Refiner
from detector.joint_detection import AnyDetector


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

    def nearest(self, score: float, box: Boxes) -> tuple[float, Boxes] | None:
        """How far the nearest score is, and its positions ``(P, 4)``; of equal ones that which overlaps a box most.

        None where nothing overlaps the ``(4,)`` box.
        """
        overlaps = iou(self.boxes, box[None])[:, 0]
        possible = np.flatnonzero(overlaps > 0)
        if not len(possible):
            return None
        # scores of equal features differ by rounding at most
        distances = np.round(np.abs(self.scores[possible] - score), 5)
        best = np.lexsort((-overlaps[possible], distances))[0]
        return float(distances[best]), self.positions[possible[best]]


def score_boxes(detector: AnyDetector, maps: FeatureMaps, boxes: Boxes) -> Features:
    """Scores ``(n, K)`` of ``(n, 4)`` boxes where they are."""
    return detector.encoder.apply(detector.decision_function, maps, detector.encoder.regions(maps, boxes))


def make_candidates(
    detector: AnyDetector, maps: FeatureMaps, boxes: Boxes, label: int, scores: NDArray[np.float32]
) -> Candidates:
    """What `Detector.candidates` makes of ``(n, 4)`` proposals in one class, whatever they score.

    ``scores`` ``(n,)``: what they score where they are.
    """
    labels, rounds = np.full(len(boxes), label, np.int64), detector.settings.refinements
    if detector.regressors is None:
        return Candidates(boxes, boxes[:, None], boxes, scores)
    if rounds:
        refiner = Refiner(detector.encoder, detector.heads, rounds)
        positions, scores = refiner.refine(maps, boxes, labels, scores)
        return Candidates(boxes, np.stack(positions, axis=1), positions[-1], scores)
    pooled = detector.encoder.pool(maps, detector.encoder.regions(maps, boxes))
    moved = clip(decode_deltas(boxes, detector.heads.move(pooled, labels)), *maps.image_size)
    return Candidates(boxes, boxes[:, None], moved, scores)
