"""From an image to its detections, by one detector or by several together; `pipeline.Detector` is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.config.detector import DetectionConfig
from detector.detections import Detections
from detector.features.encoder import Encoder, FeatureMaps, Features
from detector.heads.box_regressors import BoxRegressors
from detector.heads.calibration import Calibration
from detector.heads.heads import Heads
from detector.heads.suppression import join
from detector.images.files import ImageLike, as_image
from detector.runtime.timing import stage
from detector.stages import Proposer, proposer_key

Inputs = tuple[FeatureMaps, Boxes]
"""What a detector sees of an image: its feature maps and the ``(R, 4)`` boxes that are scored."""


class AnyDetector(Protocol):
    """What detecting together, and explaining, ask of a detector; see `pipeline.Detector`."""

    @property
    def propose(self) -> Proposer: ...
    @property
    def encoder(self) -> Encoder: ...
    @property
    def heads(self) -> Heads: ...
    @property
    def regressors(self) -> BoxRegressors | None: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def settings(self) -> DetectionConfig: ...
    @property
    def calibration(self) -> Calibration | None: ...
    @property
    def uses_mirror_image(self) -> bool: ...

    def decision_function(self, pooled: Features) -> Features: ...
    def maps(self, image: NDArray[np.uint8], boxes: Boxes) -> FeatureMaps: ...
    def worth_scoring(self, maps: FeatureMaps, boxes: Boxes) -> Boxes: ...
    def candidates(self, maps: FeatureMaps, boxes: Boxes, least: float) -> Detections: ...
    def chosen(self, candidates: Detections) -> Detections: ...
    def detecting(self, **settings: Any) -> AnyDetector: ...


def joint_class_names(detectors: Sequence[AnyDetector]) -> tuple[str, ...]:
    """The classes of the first detector, then what others know besides."""
    return tuple(dict.fromkeys(name for detector in detectors for name in detector.class_names))


def detect_in_image(
    detectors: Sequence[AnyDetector],
    image: ImageLike,
    boxes: Boxes | None = None,
    min_score: float | None = None,
    max_detections: int | None = None,
) -> Detections:
    """`Detector.detect` by several detectors together; those that propose alike share their boxes."""
    return detect_in_inputs(detectors, inputs_in_image(detectors, image, boxes), min_score, max_detections)


def inputs_in_image(detectors: Sequence[AnyDetector], image: ImageLike, boxes: Boxes | None = None) -> list[Inputs]:
    """What each detector sees of an image; ``boxes`` take the place of their proposals."""
    image = as_image(image)
    proposed: dict[Any, Boxes] = {}
    inputs = []
    for detector in detectors:
        key = proposer_key(detector.propose)
        if key not in proposed:
            with stage("proposals"):
                proposed[key] = detector.propose(image) if boxes is None else as_boxes(boxes)
        maps = detector.maps(image, proposed[key])
        inputs.append((maps, detector.worth_scoring(maps, proposed[key])))
    return inputs


def detect_in_inputs(
    detectors: Sequence[AnyDetector],
    inputs: Sequence[Inputs],
    min_score: float | None = None,
    max_detections: int | None = None,
) -> Detections:
    """`detect_in_image` for an image of which each detector has its inputs already.

    What all of them find is suppressed together, class by class name, by the settings of the first. One alone tells
    probabilities, if it has a calibration.
    """
    min_score, most = detectors[0].settings.limits(min_score, max_detections)
    # a setting that keeps fewer detections than are asked for gives way
    detectors = [
        each.detecting(max_detections=most) if most > each.settings.max_detections else each for each in detectors
    ]
    parts = [
        detector.candidates(maps, boxes, min(min_score, detector.settings.min_score))
        for detector, (maps, boxes) in zip(detectors, inputs, strict=True)
    ]
    found = detectors[0].chosen(join(parts)).above(min_score).top(most)
    calibration = detectors[0].calibration
    return found if calibration is None or len(detectors) > 1 else calibration(found)
