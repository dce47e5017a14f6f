"""What became of a box: whether a proposal covered it, what that scored, and what suppressed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, area, iou
from detector.detections import Detections, nms
from detector.explanation.candidates import make_candidates
from detector.explanation.evidence import Evidence
from detector.features.encoder import FeatureMaps
from detector.pipeline import Detector

Outcome = Literal["found", "no proposal", "low score", "suppressed", "moved away", "too many"]
Input = tuple[Detector, FeatureMaps, Boxes, int, NDArray[np.float32]]
"""A detector, the maps of the image, proposals ``(R, 4)``, the label of the class, its scores ``(R,)`` of these."""

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
    it had moved away, with its IoU with the strongest.
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


@dataclass(frozen=True, eq=False)
class _Field:
    """Candidates of one class of all detectors, together with the proposals that cover what was asked for.

    All ``(n, ...)``: where they began and their overlap there with the box that was asked for, what they scored there,
    where they ended, what they scored on the way, and whether they are in the running for suppression.
    """

    proposals: Boxes
    overlaps: NDArray[np.float32]
    first_scores: NDArray[np.float32]
    boxes: Boxes
    scores: NDArray[np.float32]
    running: NDArray[np.bool_]


def judge(
    evidence: Evidence, moved: Boxes, inputs: Sequence[Input], detections: Detections, min_score: float, most: int
) -> Verdict:
    """The verdict on a box of which the evidence is known, and where it would be ``moved`` ``(4,)``.

    ``inputs`` are those of the detectors that know the class, and ``detections`` what they found with ``min_score``
    and ``most`` detections an image.
    """
    asked = evidence.box
    same_class = np.flatnonzero(detections.labels == detections.class_names.index(evidence.class_name))
    found = Detections(
        detections.boxes[same_class], detections.labels[same_class], detections.scores[same_class], detections.class_names
    )
    field = _field(inputs, asked, min_score)
    places: dict[str, Place | None] = {"closest": None, "strongest": None, "other": None}
    if len(field.overlaps):
        row = int(field.overlaps.argmax())
        places["closest"] = Place(
            field.proposals[row], float(field.first_scores[row]), float(field.overlaps[row])
        )
    covering = np.flatnonzero(field.overlaps >= COVERS)
    outcome: Outcome = "no proposal"
    if len(covering):
        # one that fell behind before it moved has no chance, whatever it would score after
        row = int(max(covering, key=lambda each: (field.running[each], field.scores[each])))
        places["strongest"] = _place(field.boxes[row], field.scores[row], asked)
        outcome, places["other"] = _fate(field, row, inputs, found, min_score, len(detections) >= most)
    overlaps = iou(found.boxes, asked[None])[:, 0]
    if len(found) and overlaps.max() >= COVERS:
        row = int(overlaps.argmax())
        outcome, places["other"] = "found", _place(found.boxes[row], found.scores[row], asked)
    return Verdict(evidence, moved, outcome, min_score, **places)


def _place(box: Boxes, score: np.float32, other: Boxes) -> Place:
    return Place(box, float(score), float(iou(box[None], other[None])[0, 0]))
