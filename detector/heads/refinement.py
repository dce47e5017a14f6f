"""Refine and rescore boxes before suppression, and place survivors by box voting.

Not in the paper; both steps are those of Gidaris & Komodakis (ICCV 2015, section 5: iterative localization, bounding
box voting), with the one-shot regressors and SVMs of SPP-net in place of their networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, clip, decode_deltas, iou
from detector.detections import Detections
from detector.features.encoder import Encoder, FeatureMaps, Features
from detector.heads.heads import Heads
from detector.heads.linear import BoxRegressors

SAME_OBJECT = 0.5
"""IoU above which two survivors of one class are one object after voting: VOC counts the second as wrong."""


class RefinedBoxes(NamedTuple):
    """Boxes after box regression.

    boxes: ``(N, 4)`` where they end. scores: ``(N,)`` float32, the mean over ``positions``.
    positions: one or more arrays ``(N, 4)``, where the boxes were scored, first those that were proposed.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    positions: Sequence[Boxes]


class ScoredBoxes(NamedTuple):
    """Scored boxes of an image before the suppression: those that were refined, and others as they were proposed."""

    refined: Detections
    others: Detections


def refine(
    encoder: Encoder,
    heads: Heads,
    maps: FeatureMaps,
    boxes: Boxes,
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    rounds: int,
    deltas: Boxes | None = None,
) -> RefinedBoxes:
    """Refine boxes ``rounds`` times by the regressor of their class, and average their scores over all positions.

    Each round uses the next regressors, or the last again. A cascade moves the boxes once more at the end, where
    they are not scored: their features are those of the last scores, so that it costs nothing.

    boxes: ``(N, 4)`` float32. labels, scores: ``(N,)``, the class of each box and its score where it is.
    deltas: ``(N, 4)`` of the first round, where they are known.
    """
    positions, total = [boxes], scores.astype(np.float32)
    cascaded = len(heads.regressors) > 1
    if deltas is None:
        deltas, _ = _score_and_regress(encoder, heads, maps, boxes, labels, heads.regressors[0], score=False)
    for number in range(1, rounds + 1):
        positions.append(clip(decode_deltas(positions[-1], deltas), *maps.image_size))
        moves_on = cascaded or number < rounds
        regressors = heads.regressors[min(number, len(heads.regressors) - 1)] if moves_on else None
        deltas, found = _score_and_regress(encoder, heads, maps, positions[-1], labels, regressors, score=True)
        total = total + found
    end = positions[-1]
    if cascaded:
        end = clip(decode_deltas(end, deltas), *maps.image_size)
    return RefinedBoxes(end, total / np.float32(rounds + 1), positions)


def _score_and_regress(
    encoder: Encoder,
    heads: Heads,
    maps: FeatureMaps,
    boxes: Boxes,
    labels: NDArray[np.int64],
    regressors: BoxRegressors | None,
    score: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return deltas ``(N, 4)`` and scores ``(N,)`` of ``(N, 4)`` boxes; zeros for what is not asked for.

    Boxes of the same cells, as many boxes of one object are, are pooled once.
    """
    regions, owners = np.unique(encoder.regions(maps, boxes), axis=0, return_inverse=True)
    order = np.argsort(owners.ravel(), kind="stable")
    starts = np.searchsorted(owners.ravel()[order], np.arange(len(regions) + 1))
    deltas, scores = np.zeros((len(boxes), 4), np.float32), np.zeros(len(boxes), np.float32)

    def use(rows: NDArray[np.int64], pooled: Features) -> None:
        pairs = np.concatenate([order[starts[row] : starts[row + 1]] for row in rows])
        own = np.repeat(np.arange(len(rows)), starts[rows + 1] - starts[rows])
        deltas[pairs], scores[pairs] = heads.score_and_regress(pooled, own, labels[pairs], regressors, score)

    encoder.for_each_block(maps, regions, use)
    return deltas, scores


def vote(survivors: Detections, scored: Detections, min_iou: float, min_score: float) -> Detections:
    """Place every survivor at the mean of the scored boxes of its class that overlap it by at least ``min_iou``.

    ``scored`` holds the survivors, too. A box weighs the square of what its score exceeds ``min_score`` by.
    """
    boxes = survivors.boxes.copy()
    weights = np.maximum(scored.scores - min_score, 1e-3) ** 2
    for label in np.unique(survivors.labels):
        rows, voters = survivors.labels == label, scored.labels == label
        votes = weights[voters] * (iou(survivors.boxes[rows], scored.boxes[voters]) >= min_iou)
        boxes[rows] = votes @ scored.boxes[voters] / votes.sum(1, keepdims=True)
    return replace(survivors, boxes=boxes)
