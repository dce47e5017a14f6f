"""Explain the detections of an image, and boxes that were not found.

attributions = explain(model, image, model.detect(image))
diagnosis = explain_box(model, image, box, "dog")
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detector.boxes import Boxes, area, as_boxes, clip, iou
from detector.datasets.tiles import crop
from detector.detections import Detection, Detections
from detector.ensemble import Ensemble
from detector.explanation.attribution import Attribution, ScoredPosition, attribute
from detector.explanation.diagnosis import Diagnosis, ScoredBox, SuppressionTrace, diagnose
from detector.features.encoder import FeatureMaps, Features
from detector.heads.refinement import RefinedBoxes
from detector.images.files import ImageLike, as_image
from detector.pipeline import Detector
from detector.scoring import detect_in_inputs, detect_in_views, inputs_of
from detector.thresholds import Limits, Thresholds
from detector.tiles import Window, moved, visible

_NEAR_IOU = 0.2
_EQUAL = 1e-4
_ROUNDED = 0.05
"""Difference of scores that half precision, or another machine, may cause."""


def explain(model: Ensemble | Detector, image: ImageLike, detections: Detections | None = None) -> list[Attribution]:
    """Attribute the score of each detection of an image to the cells of the feature maps it was pooled from.

    image: as `Detector.detect` takes it. detections: what the model found in it, by default what it shows.
    Raises ValueError for detections that the model did not make of this image.
    """
    explainer = Explainer(model, as_image(image))
    return explainer.explain(explainer.detect() if detections is None else detections)


def explain_box(
    model: Ensemble | Detector,
    image: ImageLike,
    box: ArrayLike,
    class_name: str,
    *,
    max_detections: int | None = None,
    **limits: Unpack[Limits],
) -> Diagnosis:
    """Diagnose why a box ``x1 y1 x2 y2`` of an image was found as an object of a class, or why not.

    image, limits: as `Detector.detect` takes them. Raises ValueError for an unknown class and a box without area
    in the image.
    """
    thresholds = model.thresholds(**limits)
    return Explainer(model, as_image(image)).explain_box(box, class_name, thresholds, max_detections)


class _Candidate(NamedTuple):
    """A refined proposal that may be a detection: the distance of their scores, and its positions ``(P, 4)``."""

    distance: float
    positions: Boxes
    model: int
    label: int


class Explainer:
    """Detect in one image and explain the results; feature maps are computed once.

    image: ``(H, W, 3)`` uint8 RGB. boxes: ``(R, 4)`` instead of the model's proposals; then the image is not cut.
    window: the tile that the image is, which is not cut either.
    """

    def __init__(
        self,
        model: Ensemble | Detector,
        image: NDArray[np.uint8],
        boxes: Boxes | None = None,
        window: Window | None = None,
    ) -> None:
        self.model = model
        self.image = image
        self.detectors = model.detectors
        self.inputs = inputs_of(self.detectors, image, boxes, window)
        self._is_cut = boxes is None and window is None
        self._tiles: dict[Window, Explainer] = {}
        self._detections: dict[tuple[bytes, int | None], Detections] = {}

    def detect(self, thresholds: Thresholds | None = None, max_detections: int | None = None) -> Detections:
        """Detect with minimum scores ``(K,)``, by default the model's; equal limits are computed once."""
        thresholds = self.model.default_thresholds if thresholds is None else thresholds
        key = thresholds.tobytes(), max_detections
        if key not in self._detections:
            own = detect_in_inputs(self.detectors, self.inputs, thresholds, max_detections)

            def detect(window: Window | None) -> Detections:
                return own if window is None else self._tile(window).detect(thresholds, max_detections)

            self._detections[key] = detect_in_views(self.detectors, detect, max_detections) if self._is_cut else own
        return self._detections[key]

    def _tile(self, window: Window) -> Explainer:
        if window not in self._tiles:
            self._tiles[window] = Explainer(self.model, crop(self.image, window), window=window)
        return self._tiles[window]

    def explain(self, detections: Detections) -> list[Attribution]:
        """Attribute the score of each of the detections to the view that it comes from, the image or a tile.

        A box that was joined from several views is explained by its score in the whole image. Raises ValueError for a
        detection that the model does not make.
        """
        return [self._explain_in_views(np.array(each.box, np.float32), each) for each in detections]

    def _explain_in_views(self, box: Boxes, detection: Detection) -> Attribution:
        windows = self.detectors[0].windows(self.image.shape[:2]) if self._is_cut else []
        try:
            return self._explain(box, detection.class_name, detection.score)
        except ValueError:
            if not windows:
                raise
        for window in windows:
            inside, fraction = visible(box[None], window)
            if fraction[0] < 1:
                continue
            try:
                found = self._tile(window)._explain(inside[0], detection.class_name, detection.score)
            except ValueError:
                continue
            positions = tuple(each.in_window(window) for each in found.positions)
            return replace(found, box=box, positions=positions, image_size=self.image.shape[:2])
        return self.explain_box(box, detection.class_name).attribution

    def explain_box(
        self,
        box: ArrayLike,
        class_name: str,
        thresholds: Thresholds | None = None,
        max_detections: int | None = None,
    ) -> Diagnosis:
        """Diagnose a box ``x1 y1 x2 y2`` in a class; the limits are those of `detect`.

        The attribution is that of the detector with the highest score. Raises ValueError for an unknown class and a
        box without area in the image.
        """
        (asked,) = as_boxes(np.asarray(box, np.float32).reshape(1, -1), "box")
        if class_name not in self.model.class_names:
            raise ValueError(f"unknown class {class_name!r}; the model knows {', '.join(self.model.class_names)}")
        height, width = self.image.shape[:2]
        if not area(clip(asked[None], height, width))[0]:
            raise ValueError(f"box must have an area inside the image of {width} x {height}, but is {asked.tolist()}")
        tries = []
        for model, detector, label in self._models_of(class_name):
            maps = self._maps(model, asked)
            scores = detector.score_boxes(maps, asked[None])[0][:, label]
            refined = detector.refine_boxes(maps, asked[None], np.array([label]), scores)
            positions = attribute(detector, maps, np.concatenate(refined.positions), label)
            tries.append((float(refined.scores[0]), -model, refined.boxes[0], positions))
        score, negative_model, refined_box, positions = max(tries, key=lambda each: each[:2])
        attribution = self._attribution(asked, class_name, score, positions, -negative_model)
        thresholds = self.model.default_thresholds if thresholds is None else thresholds
        limit = self.detectors[0].config.detection.max_detections if max_detections is None else max_detections
        trace = self._trace(class_name, float(thresholds.min()))
        min_score = float(thresholds[self.model.class_names.index(class_name)])
        found = self.detect(thresholds, max_detections)
        return diagnose(
            attribution, refined_box, trace, found, min_score, limit, partial(self._probability, class_name=class_name)
        )

    def suppressed_by(self, attribution: Attribution, min_score: float, limit: int) -> list[ScoredBox]:
        """Return the boxes from ``min_score`` on that lost against a detection; see `SuppressionTrace`."""
        window, class_name = attribution.positions[0].window, attribution.class_name
        if window is None:
            return self._trace(class_name, min_score).suppressed_by(attribution.box, limit)
        inside, _ = visible(attribution.box[None], window)
        lost = self._tile(window)._trace(class_name, min_score).suppressed_by(inside[0], limit)
        return [replace(each, box=moved(each.box[None], window)[0]) for each in lost]

    def _trace(self, class_name: str, min_score: float) -> SuppressionTrace:
        """Trace the suppression of the whole image's proposals in a class, from a minimum score on."""
        scored = [
            (detector, *self.inputs[model], label, self._scores[model][:, label])
            for model, detector, label in self._models_of(class_name)
        ]
        return SuppressionTrace.of(scored, min_score, self.detectors[0].config.detection.nms_iou)

    def _models_of(self, class_name: str) -> Iterator[tuple[int, Detector, int]]:
        """Yield the detectors that know a class, with their indices and their labels of it."""
        for model, detector in enumerate(self.detectors):
            if class_name in detector.class_names:
                yield model, detector, detector.class_names.index(class_name)

    def _maps(self, model: int, box: Boxes) -> FeatureMaps:
        """Return maps to pool a box from: without proposals, the inputs have none."""
        maps, proposals = self.inputs[model]
        return maps if len(proposals) else self.detectors[model].encoder.maps(self.image, box[None])

    @cached_property
    def _scores(self) -> list[Features]:
        """Scores ``(R, K)`` of all proposals by each detector."""
        pairs = zip(self.detectors, self.inputs, strict=True)
        return [detector.score_boxes(maps, boxes)[0] for detector, (maps, boxes) in pairs]

    def _attribution(
        self, box: Boxes, class_name: str, score: float, positions: tuple[ScoredPosition, ...], model: int
    ) -> Attribution:
        chance = self._probability(score, class_name)
        return Attribution(box, class_name, score, positions, self.image.shape[:2], model, chance)

    def _probability(self, score: float, class_name: str) -> float | None:
        """Return the probability of a score in a class; None for a model without calibration."""
        if self.model.calibration is None:
            return None
        label = self.model.class_names.index(class_name)
        return float(self.model.calibration.probabilities(np.array([score], np.float32), np.array([label]))[0])

    def _explain(self, box: Boxes, class_name: str, score: float) -> Attribution:
        # a detection nearly always comes from a proposal near it; the others are scored only if none fits
        for min_iou, tolerance in ((_NEAR_IOU, _EQUAL), (0.0, _ROUNDED)):
            candidates = [
                each for each in self._candidates(box, class_name, score, min_iou) if each.distance <= tolerance
            ]
            if candidates:
                best = min(candidates, key=lambda each: each.distance)
                detector, (maps, _) = self.detectors[best.model], self.inputs[best.model]
                positions = attribute(detector, maps, best.positions, best.label)
                return self._attribution(box, class_name, score, positions, best.model)
        raise ValueError(
            f"detections must be those of this model in this image, but it finds no {class_name} "
            f"of {score:.3f} at {box.tolist()}"
        )

    def _candidates(self, box: Boxes, class_name: str, score: float, min_iou: float) -> Iterator[_Candidate]:
        """Yield the candidates of each detector with the nearest scores, from proposals that overlap a detection."""
        for model, detector, label in self._models_of(class_name):
            maps, proposals = self.inputs[model]
            near = proposals[iou(proposals, box[None])[:, 0] >= min_iou]
            scores = detector.score_boxes(maps, near)[0][:, label]
            rows = detector.is_refined(scores)
            labels = np.full(int(rows.sum()), label, np.int64)
            as_proposed = RefinedBoxes(near[~rows], scores[~rows], [near[~rows]])
            for refined in (detector.refine_boxes(maps, near[rows], labels, scores[rows]), as_proposed):
                if (nearest := nearest_score(refined, score, box)) is not None:
                    yield _Candidate(*nearest, model, label)


def nearest_score(refined: RefinedBoxes, score: float, box: Boxes) -> tuple[float, Boxes] | None:
    """Find the refined box with the score nearest to one: their distance, and its positions ``(P, 4)``.

    Only boxes that overlap the ``(4,)`` box count, None where there are none. Ties take the highest IoU.
    """
    overlaps = iou(refined.boxes, box[None])[:, 0]
    possible = np.flatnonzero(overlaps > 0)
    if not len(possible):
        return None
    # scores of equal features differ by rounding at most
    distances = np.round(np.abs(refined.scores[possible] - score), 5)
    best = np.lexsort((-overlaps[possible], distances))[0]
    return float(distances[best]), np.stack([each[possible[best]] for each in refined.positions])
