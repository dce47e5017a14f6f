"""One image as a detector sees it, to be asked why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detector.boxes import Boxes, area, as_boxes, clip, iou
from detector.detections import Detections
from detector.explanation.attribution import Evidence
from detector.explanation.diagnosis import Verdict, hold_contest, judge, make_candidates, score_boxes
from detector.explanation.shares import looks
from detector.features.encoder import FeatureMaps, Features
from detector.pipeline import AnyDetector, detect_in_inputs, inputs_in_image, joint_class_names

_NEAR = 0.2
_EQUAL = 1e-4
_ROUNDED = 0.05
"""How far scores may be apart that half precision, or another machine, has rounded otherwise."""


class _Trace(NamedTuple):
    """A candidate that may have become a detection: how far its score is from that, and its positions ``(P, 4)``."""

    distance: float
    positions: Boxes
    model: int
    label: int


class Explainer:
    """Detects in one image and explains what it found and what not; feature maps are computed once for all of it.

    ``detectors`` are one or several that detect together. ``image`` is ``(H, W, 3)`` uint8 RGB; ``boxes`` ``(R, 4)``
    take the place of the proposals.
    """

    def __init__(self, detectors: Sequence[AnyDetector], image: NDArray[np.uint8], boxes: Boxes | None = None) -> None:
        self.detectors = detectors
        self.class_names = joint_class_names(detectors)
        self.image = image
        self.inputs = inputs_in_image(detectors, image, boxes)
        self._detections: dict[tuple[float | None, int | None], Detections] = {}

    def detect(self, min_score: float | None = None, max_detections: int | None = None) -> Detections:
        """What the detectors find together, once for the same limits."""
        limits = min_score, max_detections
        if limits not in self._detections:
            self._detections[limits] = detect_in_inputs(self.detectors, self.inputs, *limits)
        return self._detections[limits]

    def explain(self, detections: Detections) -> list[Evidence]:
        """Why each of the ``detections`` in the image scores what it does, in their order.

        Raises ValueError for one that none of the detectors makes.
        """
        return [
            self._explain_one(box, detections.class_names[label], float(score))
            for box, label, score in zip(detections.boxes, detections.labels, detections.scores, strict=True)
        ]

    def explain_box(
        self, box: ArrayLike, class_name: str, min_score: float | None = None, max_detections: int | None = None
    ) -> Verdict:
        """Whether a box ``(4,)`` was found as an object of a class, and why or why not.

        ``min_score`` and ``max_detections`` are those of `detect`. Of an ensemble, the detector that scores the box
        best gives the evidence. Raises ValueError for a class that no detector knows and a box without an area in the
        image.
        """
        (asked,) = as_boxes(np.asarray(box, np.float32).reshape(1, -1), "box")
        if class_name not in self.class_names:
            raise ValueError(f"unknown class {class_name!r}; the model knows {', '.join(self.class_names)}")
        height, width = self.image.shape[:2]
        if not area(clip(asked[None], height, width))[0]:
            raise ValueError(f"box must have an area inside the image of {width} x {height}, but is {asked.tolist()}")
        tries = []
        for model, detector, label in self._knowing(class_name):
            maps = self._maps(model, asked)
            scores = score_boxes(detector, maps, asked[None])[:, label]
            alone = make_candidates(detector, maps, asked[None], label, scores)
            tries.append((float(alone.scores[0]), -model, alone, looks(detector, maps, alone.positions[0], label)))
        score, negative_model, alone, found = max(tries, key=lambda each: each[:2])
        evidence = Evidence(asked, class_name, score, found, (height, width), -negative_model)
        detections = self.detect(min_score, max_detections)
        least, most = self.detectors[0].settings.limits(min_score, max_detections)
        inputs = [
            (detector, *self.inputs[model], label, self._scores[model][:, label])
            for model, detector, label in self._knowing(class_name)
        ]
        contest = hold_contest(inputs, self.detectors[0].settings.nms_iou, least)
        return judge(evidence, alone.boxes[0], contest, detections, most)

    def _knowing(self, class_name: str) -> Iterator[tuple[int, AnyDetector, int]]:
        """The detectors that know a class, with their numbers and their labels of it."""
        for model, detector in enumerate(self.detectors):
            if class_name in detector.class_names:
                yield model, detector, detector.class_names.index(class_name)

    def _maps(self, model: int, box: Boxes) -> FeatureMaps:
        """Maps to read a box from: where there are no proposals, none have been computed."""
        maps, proposals = self.inputs[model]
        return maps if len(proposals) else self.detectors[model].maps(self.image, box[None])

    @cached_property
    def _scores(self) -> list[Features]:
        """Scores ``(R, K)`` of all proposals where they are, by detector."""
        return [
            score_boxes(detector, maps, boxes)
            for detector, (maps, boxes) in zip(self.detectors, self.inputs, strict=True)
        ]

    def _explain_one(self, box: Boxes, class_name: str, score: float) -> Evidence:
        # as a rule it came from a proposal near it: the others are scored only where that fails
        for least_iou, tolerance in ((_NEAR, _EQUAL), (0.0, _ROUNDED)):
            traces = [trace for trace in self._traces(box, class_name, score, least_iou) if trace.distance <= tolerance]
            if traces:
                best = min(traces, key=lambda trace: trace.distance)
                detector, (maps, _) = self.detectors[best.model], self.inputs[best.model]
                found = looks(detector, maps, best.positions, best.label)
                return Evidence(box, class_name, score, found, maps.image_size, best.model)
        raise ValueError(
            f"detections must be those of this detector in this image, but it finds no {class_name} "
            f"of {score:.3f} at {box.tolist()}"
        )

    def _traces(self, box: Boxes, class_name: str, score: float, least_iou: float) -> Iterator[_Trace]:
        """For each detector the candidate of the nearest score, of those whose proposals overlap a box ``(4,)``."""
        for model, detector, label in self._knowing(class_name):
            maps, proposals = self.inputs[model]
            near = proposals[iou(proposals, box[None])[:, 0] >= least_iou]
            scores = score_boxes(detector, maps, near)[:, label]
            if least_iou:
                likely = scores >= min(score, detector.settings.min_score)
                near, scores = near[likely], scores[likely]
            nearest = make_candidates(detector, maps, near, label, scores).nearest(score, box)
            if nearest is not None:
                yield _Trace(*nearest, model, label)
