"""Boxes moved and scored anew before suppression, and survivors placed by all boxes that agree with them.

Not in the paper; both steps are those of Gidaris & Komodakis (ICCV 2015, section 5: iterative localisation, bounding
box voting), with the one-shot regressors and SVMs of SPP-net in place of their networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, area, clip, decode_deltas, iou
from detector.detections import Detections
from detector.features.encoder import FeatureMaps, Features, RegionEncoder

SAME_OBJECT = 0.5
"""Survivors that were voted to so large an IoU are one: VOC counts the second as wrong."""


@dataclass(frozen=True)
class Refiner:
    """Moves candidates ``rounds`` times by the regressor of their class; scores are means over all positions.

    ``move`` and ``score`` map pooled features ``(n, D)`` and labels ``(n,)`` to the deltas ``(n, 4)`` and the scores
    ``(n,)`` of these classes.
    """

    encoder: RegionEncoder
    move: Callable[[Features, NDArray[np.int64]], Boxes]
    score: Callable[[Features, NDArray[np.int64]], NDArray[np.float32]]
    rounds: int

    def __call__(
        self, maps: FeatureMaps, boxes: Boxes, scores: NDArray[np.float32], class_names: tuple[str, ...], least: float
    ) -> Detections:
        """Every pair of one of ``(R, 4)`` boxes and a class in which it scores at least ``least``, refined.

        ``scores`` are ``(R, K)``, of the boxes where they are.
        """
        # by class, so that a block of rows is of few classes
        labels, rows = (scores >= least).T.nonzero()
        moved, total = boxes[rows], scores[rows, labels]
        for position in range(self.rounds + 1):
            deltas = np.zeros((len(moved), 4), np.float32)
            use = partial(self._use, labels, position, deltas, total)
            self.encoder.for_each_block(maps, self.encoder.windows(maps, moved), use)
            moved = clip(decode_deltas(moved, deltas), *maps.image_size) if position < self.rounds else moved
        inside = area(moved) > 0  # not moved out of the picture
        return Detections(moved[inside], labels[inside], total[inside] / np.float32(self.rounds + 1), class_names)

    def _use(
        self,
        labels: NDArray[np.int64],
        position: int,
        deltas: Boxes,
        total: NDArray[np.float32],
        rows: NDArray[np.int64],
        features: Features,
    ) -> None:
        """Move and score the boxes of a block; first they have their scores, and last they stay."""
        if position < self.rounds:
            deltas[rows] = self.move(features, labels[rows])
        if position > 0:
            total[rows] += self.score(features, labels[rows])


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
