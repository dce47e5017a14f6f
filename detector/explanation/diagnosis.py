"""Diagnose a box: whether a proposal covered it, what that scored, and what suppressed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, area, iou
from detector.detections import Detections, percent
from detector.explanation.attribution import Attribution
from detector.features.encoder import FeatureMaps
from detector.heads.suppression import nms
from detector.pipeline import Detector

Outcome = Literal["found", "no proposal", "low score", "suppressed", "refined away", "over the limit"]
COVERED_IOU = 0.5
"""IoU from which a proposal covers an object, and a detection finds it: VOC's rule."""
_EQUAL = 1e-4


def _no_probability(score: float) -> float | None:
    return None


@dataclass(frozen=True, eq=False)
class ScoredBox:
    """A box ``(4,)`` with its score, and its IoU with another one."""

    box: Boxes
    score: float
    iou: float

    def to_record(self) -> dict[str, Any]:
        """Return ``{"box": [x1, y1, x2, y2], "score": float, "iou": float}`` for JSON."""
        box = [round(float(corner), 2) for corner in self.box]
        return {"box": box, "score": round(self.score, 6), "iou": round(self.iou, 4)}


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Diagnosis of a box in a class by a detector.

    attribution: of the score of the box, as if it had been proposed.
    refined: ``(4,)``, the box after box regression.
    outcome: "found", or the step that failed: no proposal covered it; all that did had a low score; the best of these
        was suppressed, refined away from the box, or ranked below the maximum number of detections.
    min_score: the minimum score of a detection of the class.
    closest: the proposal with the highest IoU, and its score where it is; None without proposals.
    strongest: the proposal that covers the box and has the highest score after box regression, where it ended.
    other: the detection that was found; or the suppressor of the strongest, or what that became after it was refined
        away, with its IoU with the strongest, where the two met.
    probability_of: returns the probability of a score in the class; None without calibration.
    """

    attribution: Attribution
    refined: Boxes
    outcome: Outcome
    min_score: float
    closest: ScoredBox | None = None
    strongest: ScoredBox | None = None
    other: ScoredBox | None = None
    probability_of: Callable[[float], float | None] = _no_probability

    def __repr__(self) -> str:
        return f"Diagnosis({self.attribution.class_name}: {self.sentence})"

    @property
    def sentence(self) -> str:
        """The outcome in one line."""
        limit = "every threshold: the class is too weak to be shown"
        if not np.isposinf(self.min_score):
            limit = self._confidence(self.min_score, "{:g}")
        closest, strongest, other = (
            f"IoU {each.iou:.2f}, {self._confidence(each.score)}" if each else "none"
            for each in (self.closest, self.strongest, self.other)
        )
        return {
            "found": f"found: a detection covers it ({other})",
            "no proposal": f"not found: no proposal covers it; the closest has {closest}",
            "low score": f"not found: the best proposal that covers it has {strongest}, below {limit}",
            "suppressed": f"not found: its best proposal ({strongest}) was suppressed by a stronger box ({other})",
            "refined away": f"not found: box regression moved its best proposal away ({strongest})",
            "over the limit": f"not found: its best proposal ({strongest}) ranks below the maximum of detections",
        }[self.outcome]

    def _confidence(self, score: float, as_score: str = "score {:.2f}") -> str:
        """Return a probability as "88 %" or, without calibration, a score by its format."""
        probability = self.probability_of(score)
        return as_score.format(round(score, 2)) if probability is None else percent(probability)

    def to_record(self) -> dict[str, Any]:
        """Return everything but the heat maps, for JSON."""
        boxes = {name: getattr(self, name) for name in ("closest", "strongest", "other")}
        probability = self.attribution.probability
        return {
            "label": self.attribution.class_name,
            "score": round(self.attribution.score, 6),
            **({} if probability is None else {"probability": round(probability, 6)}),
            "box": [round(float(corner), 2) for corner in self.attribution.box],
            **self.attribution.to_record(),
            "refined": [round(float(corner), 2) for corner in self.refined],
            "outcome": self.outcome,
            "sentence": self.sentence,
            **{name: each and each.to_record() for name, each in boxes.items()},
        }


Scored = tuple[Detector, FeatureMaps, Boxes, int, NDArray[np.float32]]
"""A detector, maps and proposals ``(R, 4)`` of an image, the label of a class, and its scores ``(R,)`` of these."""


@dataclass(frozen=True, eq=False)
class SuppressionTrace:
    """The proposals ``(n, 4)`` of one or more models as objects of one class, and the box that suppressed each.

    models: ``(n,)`` int64, the model of each proposal.
    first_scores: ``(n,)`` float32 as proposed.
    scored: ``(n,)`` bool, False for those whose first score is too low to be detected.
    boxes, scores: ``(n, 4)`` and ``(n,)`` after box regression, of those that are refined.
    first_nms_ious: IoU of each model's suppression before box regression; None without.
    nms_iou: IoU of the suppression of all boxes together.
    """

    models: NDArray[np.int64]
    proposals: Boxes
    first_scores: NDArray[np.float32]
    scored: NDArray[np.bool_]
    boxes: Boxes
    scores: NDArray[np.float32]
    first_nms_ious: Sequence[float | None]
    nms_iou: float

    @classmethod
    def of(cls, inputs: Sequence[Scored], min_score: float, nms_iou: float) -> SuppressionTrace:
        """Refine the proposals that reach ``min_score``, or the minimum of the recipe, as detection does."""
        parts: list[tuple[Any, ...]] = []
        for model, (detector, maps, proposals, label, first_scores) in enumerate(inputs):
            scored = first_scores >= min(min_score, detector.config.detection.min_score)
            rows = scored & detector.is_refined(first_scores)
            labels = np.full(int(rows.sum()), label, np.int64)
            refined = detector.refine_boxes(maps, proposals[rows], labels, first_scores[rows])
            boxes, scores = proposals.copy(), first_scores.copy()
            boxes[rows], scores[rows] = refined.boxes, refined.scores
            parts.append((np.full(len(proposals), model), proposals, first_scores, scored, boxes, scores))
        columns: list[Any] = [np.concatenate(each) for each in zip(*parts, strict=True)]
        detectors = [detector for detector, *_ in inputs]
        first = [each.config.detection.nms_iou if each.suppresses_first else None for each in detectors]
        models, proposals, first_scores, candidates, boxes, scores = columns
        return cls(models, proposals, first_scores, candidates, boxes, scores, first, nms_iou)

    def suppressor(self, row: int) -> ScoredBox | None:
        """Return the stronger box that suppressed a candidate, with the IoU of the two; None where none did."""
        rows, first = self._after_first()
        if row in first:
            return self._strongest_overlap(rows[self.models[rows] == self.models[row]], row, self.proposals)
        rows, kept = self._after_last(rows)
        return None if row in kept or row not in rows else self._strongest_overlap(kept, row, self.boxes)

    def suppressed_by(self, box: Boxes, limit: int) -> list[ScoredBox]:
        """Return the ``limit`` strongest boxes that lost against a detection, with their IoU with the winner.

        The winner is the survivor that overlaps the ``(4,)`` ``box`` most: box voting moves survivors. Boxes that lost
        before box regression are returned where they were proposed.
        """
        rows, first = self._after_first()
        rows, kept = self._after_last(rows)
        overlaps = iou(self.boxes[kept], box[None])[:, 0]
        if overlaps.max(initial=0) < COVERED_IOU:
            return []
        winner = kept[overlaps.argmax()]
        early = first[self.models[first] == self.models[winner]]
        limits = (self.first_nms_ious[self.models[winner]], self.nms_iou)
        lost: list[ScoredBox] = []
        parts = (early, np.setdiff1d(rows, winner)), (self.proposals, self.boxes), limits
        for candidates, boxes, max_iou in zip(*parts, strict=True):
            weaker = candidates[self.scores[candidates] <= self.scores[winner]]
            scored = [_scored_box(boxes[row], self.scores[row], boxes[winner]) for row in weaker]
            lost += [each for each in scored if max_iou is not None and each.iou > max_iou]
        return sorted(lost, key=lambda each: -each.score)[:limit]

    def _after_first(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the candidates that survive the suppression before box regression, and those that do not."""
        rows = candidates = np.flatnonzero(self.scored)
        for model, limit in enumerate(self.first_nms_ious):
            if limit is not None:
                own = rows[self.models[rows] == model]
                kept = own[nms(self.proposals[own], self.scores[own], limit)]
                rows = np.setdiff1d(rows, np.setdiff1d(own, kept))
        return rows, np.setdiff1d(candidates, rows)

    def _after_last(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows whose refined boxes have an area, and those that survive the last suppression."""
        rows = rows[area(self.boxes[rows]) > 0]
        return rows, rows[nms(self.boxes[rows], self.scores[rows], self.nms_iou)]

    def _strongest_overlap(self, kept: NDArray[np.int64], row: int, boxes: Boxes) -> ScoredBox:
        stronger = kept[self.scores[kept] >= self.scores[row]]
        overlaps = iou(boxes[stronger], boxes[row][None])[:, 0]
        best = stronger[overlaps.argmax()]
        return ScoredBox(boxes[best], float(self.scores[best]), float(overlaps.max()))


def diagnose(
    attribution: Attribution,
    refined: Boxes,
    trace: SuppressionTrace,
    detections: Detections,
    min_score: float,
    max_detections: int,
    probability_of: Callable[[float], float | None] = _no_probability,
) -> Diagnosis:
    """Diagnose a box whose attribution is known, and its position ``refined`` ``(4,)`` after box regression.

    trace: of the class. detections: of the image, at most ``max_detections``; those of the class have ``min_score``.
    probability_of: as in `Diagnosis`.
    """
    box = attribution.box
    own = detections[detections.labels == detections.class_names.index(attribution.class_name)]
    found = [_scored_box(*pair, box) for pair in zip(own.boxes, own.scores, strict=True)]
    overlaps = iou(trace.proposals, box[None])[:, 0]
    closest = strongest = other = None
    if len(overlaps):
        row = int(overlaps.argmax())
        closest = _scored_box(trace.proposals[row], trace.first_scores[row], box)
    covering = np.flatnonzero(overlaps >= COVERED_IOU)
    outcome: Outcome = "no proposal"
    if len(covering):
        # a proposal that is not scored cannot be detected
        row = int(max(covering, key=lambda each: (trace.scored[each], trace.scores[each])))
        strongest = _scored_box(trace.boxes[row], trace.scores[row], box)
        outcome, other = _outcome(trace, row, strongest, found, min_score, len(detections) >= max_detections)
    best = max(found, key=lambda each: each.iou, default=None)
    if best is not None and best.iou >= COVERED_IOU:
        outcome, other = "found", best
    return Diagnosis(attribution, refined, outcome, min_score, closest, strongest, other, probability_of)


def _outcome(
    trace: SuppressionTrace, row: int, candidate: ScoredBox, found: list[ScoredBox], min_score: float, full: bool
) -> tuple[Outcome, ScoredBox | None]:
    """Return the outcome of a candidate, and the other box of the diagnosis, where no detection covers the box."""
    if not trace.scored[row] or candidate.score < min_score:
        return "low score", None
    if not area(candidate.box[None])[0]:
        return "refined away", None
    if (suppressor := trace.suppressor(row)) is not None:
        return "suppressed", suppressor
    # box voting moves boxes but keeps their scores, by which they are recognized
    near = [_scored_box(each.box, each.score, candidate.box) for each in found]
    if any(abs(each.score - candidate.score) < _EQUAL and each.iou > 0 for each in near):
        return "refined away", max(near, key=lambda each: (abs(each.score - candidate.score) < _EQUAL, each.iou))
    stronger = [each for each in near if each.score >= candidate.score and each.iou > 0]
    if full and not stronger:
        return "over the limit", None
    # box voting brought both together, and the weaker was suppressed
    return "suppressed", max(stronger, key=lambda each: each.iou, default=None)


def _scored_box(box: Boxes, score: float | np.float32, other: Boxes) -> ScoredBox:
    return ScoredBox(box, float(score), float(iou(box[None], other[None])[0, 0]))
