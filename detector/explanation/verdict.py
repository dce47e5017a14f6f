"""What became of a box: whether a proposal covered it, what that scored, and what suppressed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from detector.boxes import Boxes, area, iou
from detector.detections import Detections
from detector.explanation.contest import Contest
from detector.explanation.evidence import Evidence

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
