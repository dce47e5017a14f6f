"""What became of a box: whether a proposal covered it, what that scored, and what suppressed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, area, clip, decode_deltas, iou
from detector.detections import Detections
from detector.explanation.attribution import Evidence
from detector.features.encoder import FeatureMaps, Features
from detector.heads.refinement import Refiner
from detector.heads.suppression import nms
from detector.pipeline import AnyDetector


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
    labels, rounds = np.full(len(boxes), label, np.int64), detector.settings.box_refinements
    if detector.regressors is None:
        return Candidates(boxes, boxes[:, None], boxes, scores)
    if rounds:
        refiner = Refiner(detector.encoder, detector.heads, rounds)
        positions, scores = refiner.refine(maps, boxes, labels, scores)
        return Candidates(boxes, np.stack(positions, axis=1), positions[-1], scores)
    pooled = detector.encoder.pool(maps, detector.encoder.regions(maps, boxes))
    moved = clip(decode_deltas(boxes, detector.heads.move(pooled, labels)), *maps.image_size)
    return Candidates(boxes, boxes[:, None], moved, scores)


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
        None if detector.regressors is None or detector.settings.box_refinements else detector.settings.nms_iou
        for detector, *_ in inputs
    ]
    return Contest(models, proposals, first, running, boxes, scores, early, nms_iou, min_score)


Outcome = Literal["found", "no proposal", "low score", "suppressed", "moved away", "too many"]
_EQUAL = 1e-4
COVERS = 0.5
"""The IoU from which a proposal covers an object, and a detection finds it: VOC's rule."""


@dataclass(frozen=True, eq=False)
class Place:
    """A box ``(4,)`` next to the one that was asked for: its score, and the IoU of the two."""

    box: Boxes
    score: float
    iou: float

    def to_record(self) -> dict[str, Any]:
        """``{"box": [x1, y1, x2, y2], "score": float, "iou": float}``, ready for JSON."""
        box = [round(float(corner), 2) for corner in self.box]
        return {"box": box, "score": round(self.score, 6), "iou": round(self.iou, 4)}


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a detector made of a box and a class that somebody asked for.

    evidence: of the box: its score, and why, as if it had been proposed.
    moved: ``(4,)``, where the detector would have put the box.
    outcome: "found", or what it failed at: no proposal covered it; all that did had a low score; the best of these was
    suppressed, moved away from it, or came behind too many others.
    min_score: the least score of a detection.
    closest: the proposal that overlaps the box most, and what it scores where it is; None without any proposals.
    strongest: of the proposals that cover the box, the one of the best score after it was moved, where it ended.
    other: the detection that was found; or the stronger one that suppressed the strongest, or what that became after
    it had moved away, with its IoU with the strongest, where the two met.
    """

    evidence: Evidence
    moved: Boxes
    outcome: Outcome
    min_score: float
    closest: Place | None = None
    strongest: Place | None = None
    other: Place | None = None

    @property
    def sentence(self) -> str:
        """The outcome in one line."""
        closest, strongest, other = (
            f"IoU {place.iou:.2f}, score {place.score:.2f}" if place else "none"
            for place in (self.closest, self.strongest, self.other)
        )
        return {
            "found": f"found: a detection lies there ({other})",
            "no proposal": f"not found: no proposal covers it; the closest has {closest}",
            "low score": f"not found: the best proposal that covers it has {strongest}, below {self.min_score:g}",
            "suppressed": f"not found: its best proposal ({strongest}) was suppressed by a stronger one ({other})",
            "moved away": f"not found: its best proposal moved away from it ({strongest})",
            "too many": f"not found: its best proposal ({strongest}) came behind too many others",
        }[self.outcome]

    def to_record(self) -> dict[str, Any]:
        """Everything but the heat maps, ready for JSON."""
        places = {name: getattr(self, name) for name in ("closest", "strongest", "other")}
        return {
            "label": self.evidence.class_name,
            "score": round(self.evidence.score, 6),
            "box": [round(float(corner), 2) for corner in self.evidence.box],
            **self.evidence.to_record(),
            "moved": [round(float(corner), 2) for corner in self.moved],
            "outcome": self.outcome,
            "sentence": self.sentence,
            **{name: place and place.to_record() for name, place in places.items()},
        }


def judge(evidence: Evidence, moved: Boxes, contest: Contest, detections: Detections, most: int) -> Verdict:
    """The verdict on a box whose evidence is known, and where it would be ``moved`` ``(4,)``.

    ``contest`` is that of the proposals of its class, and ``detections``, ``most`` of which an image may have, what was
    found in the end.
    """
    asked = evidence.box
    found = np.flatnonzero(detections.labels == detections.class_names.index(evidence.class_name))
    places = [
        _place(box, score, asked) for box, score in zip(detections.boxes[found], detections.scores[found], strict=True)
    ]
    overlaps = iou(contest.proposals, asked[None])[:, 0]
    closest = strongest = None
    if len(overlaps):
        row = int(overlaps.argmax())
        closest = _place(contest.proposals[row], contest.first_scores[row], asked)
    covering = np.flatnonzero(overlaps >= COVERS)
    outcome: Outcome = "no proposal"
    other = None
    if len(covering):
        # one that dropped out before it moved has no chance, whatever it scores
        row = int(max(covering, key=lambda each: (contest.running[each], contest.scores[each])))
        strongest = _place(contest.boxes[row], contest.scores[row], asked)
        outcome, other = _fate(contest, row, strongest, places, len(detections) >= most)
    best = max(places, key=lambda place: place.iou, default=None)
    if best is not None and best.iou >= COVERS:
        outcome, other = "found", best
    return Verdict(evidence, moved, outcome, contest.min_score, closest, strongest, other)


def _fate(
    contest: Contest, row: int, place: Place, detections: list[Place], full: bool
) -> tuple[Outcome, Place | None]:
    """What became of a proposal that is no detection where it was asked for, and the detection that goes with it."""
    if not contest.running[row] or place.score < contest.min_score:
        return "low score", None
    if not area(place.box[None])[0]:
        return "moved away", None
    if (rival := contest.rival(row)) is not None:
        return "suppressed", Place(*rival)
    # a vote moves boxes but leaves their scores, by which they are known
    near = [Place(each.box, each.score, _overlap(each.box, place.box)) for each in detections]
    if any(abs(each.score - place.score) < _EQUAL and each.iou > 0 for each in near):
        return "moved away", max(near, key=lambda each: (abs(each.score - place.score) < _EQUAL, each.iou))
    stronger = [each for each in near if each.score >= place.score and each.iou > 0]
    if full and not stronger:
        return "too many", None
    # brought together by the vote, of which the weaker goes
    return "suppressed", max(stronger, key=lambda each: each.iou, default=None)


def _overlap(box: Boxes, other: Boxes) -> float:
    return float(iou(box[None], other[None])[0, 0])


def _place(box: Boxes, score: np.float32, other: Boxes) -> Place:
    return Place(box, float(score), _overlap(box, other))
