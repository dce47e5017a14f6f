"""Boxes moved and scored again before suppression, and survivors placed by all boxes that agree with them.

Not in the paper; both steps are those of Gidaris & Komodakis (ICCV 2015, section 5: iterative localisation, bounding
box voting), with the one-shot regressors and SVMs of SPP-net in place of their networks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, clip, decode_deltas, flip, iou
from detector.detections import Detections
from detector.features.encoder import Encoder, FeatureMaps, Features
from detector.heads.heads import Heads

HALF = np.float32(0.5)
SAME_OBJECT = 0.5
"""Survivors that were voted to so large an IoU are one: VOC counts the second as wrong."""


@dataclass(frozen=True)
class Refiner:
    """Moves candidates ``rounds`` times by the regressor of their class; scores are means over all positions.

    Where the maps have mirrored ones, boxes are moved by the mean of what is found in both, and scored likewise.
    ``heads`` have regressors.
    """

    encoder: Encoder
    heads: Heads
    rounds: int

    def __call__(
        self,
        maps: FeatureMaps,
        boxes: Boxes,
        scores: NDArray[np.float32],
        class_names: tuple[str, ...],
        least: float,
        features: Features | None = None,
    ) -> Detections:
        """Every pair of one of ``(R, 4)`` boxes and a class in which it scores at least ``least``, refined.

        ``scores`` are ``(R, K)``, of the boxes where they are, and ``features`` ``(R, n)``, where they are given, those
        of the layers which the first moves are read from.
        """
        # by class, so that a block of rows is of few classes
        labels, rows = (scores >= least).T.nonzero()
        deltas = None
        if features is not None and self.heads.regressors is not None:
            deltas = self.heads.regressors.predict(features, labels, rows)
        positions, means = self.refine(maps, boxes[rows], labels, scores[rows, labels], deltas)
        return Detections(positions[-1], labels, means, class_names).inside()

    def refine(
        self,
        maps: FeatureMaps,
        boxes: Boxes,
        labels: NDArray[np.int64],
        scores: NDArray[np.float32],
        deltas: Boxes | None = None,
    ) -> tuple[list[Boxes], NDArray[np.float32]]:
        """Positions of ``(n, 4)`` boxes, first where they are and last where they end, and the mean scores ``(n,)``.

        ``labels`` and ``scores`` are ``(n,)``: the class of each box, and what it scores there where it is. ``deltas``
        ``(n, 4)``, where they are known, are those of the first move.
        """
        positions, total = [boxes], np.zeros(len(boxes), np.float32)
        for position in range(self.rounds + 1):
            moves, moved = position < self.rounds, positions[-1]
            if position > 0:
                deltas, found = self._look(maps, moved, labels, moves, True)
            else:
                found = scores
                if deltas is None:
                    deltas, _ = self._look(maps, moved, labels, moves, False)
            if maps.mirrored is not None:
                mirror_image = flip(moved, maps.image_size[1])
                others, found_there = self._look(maps.mirrored, mirror_image, labels, moves, True)
                others[:, 0] *= -1
                deltas, found = HALF * (deltas + others), HALF * (found + found_there)
            total += found
            if moves:
                positions.append(clip(decode_deltas(moved, deltas), *maps.image_size))
        return positions, total / np.float32(self.rounds + 1)

    def _look(
        self, maps: FeatureMaps, boxes: Boxes, labels: NDArray[np.int64], moves: bool, scores: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Deltas ``(n, 4)`` and scores ``(n,)`` of boxes, or zeros where they are not asked for.

        Boxes that are read from the same cells, as are many of one object, are pooled once for all of them.
        """
        regions, owners = np.unique(self.encoder.regions(maps, boxes), axis=0, return_inverse=True)
        order = np.argsort(owners.ravel(), kind="stable")
        starts = np.searchsorted(owners.ravel()[order], np.arange(len(regions) + 1))
        deltas, found = np.zeros((len(boxes), 4), np.float32), np.zeros(len(boxes), np.float32)

        def use(rows: NDArray[np.int64], pooled: Features) -> None:
            pairs = np.concatenate([order[starts[row] : starts[row + 1]] for row in rows])
            own = np.repeat(np.arange(len(rows)), starts[rows + 1] - starts[rows])
            deltas[pairs], found[pairs] = self.heads.look(pooled, own, labels[pairs], moves, scores)

        self.encoder.for_each_block(maps, regions, use)
        return deltas, found


def vote(survivors: Detections, candidates: Detections, min_iou: float, least: float) -> Detections:
    """Place every survivor at the mean of the candidates of its class that overlap it by at least ``min_iou``.

    Candidates, survivors among them, weigh as the square of what their score exceeds ``least`` by.
    """
    boxes = survivors.boxes.copy()
    weights = np.maximum(candidates.scores - least, 1e-3) ** 2
    for label in np.unique(survivors.labels):
        rows, voters = survivors.labels == label, candidates.labels == label
        shares = weights[voters] * (iou(survivors.boxes[rows], candidates.boxes[voters]) >= min_iou)
        boxes[rows] = shares @ candidates.boxes[voters] / shares.sum(1, keepdims=True)
    return replace(survivors, boxes=boxes)
