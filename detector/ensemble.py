"""Detect with several models as with one: scored boxes are joined before suppression (paper, section 4.4)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from detector.boxes import Boxes
from detector.datasets.dataset import Annotation
from detector.detection_model import DetectionModel
from detector.detections import Detections
from detector.features.cache import FeatureCache
from detector.heads.calibration import Calibration
from detector.images.files import ImageLike
from detector.pipeline import Detector
from detector.runtime.openvino import Runtime
from detector.scoring import Record, detect_in_caches, detect_in_image, joint_class_names
from detector.thresholds import Thresholds
from detector.tiles import Tiles

_log = logging.getLogger(__name__)


class Ensemble(DetectionModel):
    """Detectors whose scored boxes are suppressed together, class by class name, by the settings of the first.

    The paper's gain came from different networks; two trainings on the same convolution gained nothing. Scores are
    compared as they are: combine SVMs with SVMs, or softmaxes with softmaxes. Raises ValueError for no detector.

    models: the detectors, one or more.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        if not detectors:
            raise ValueError("an ensemble needs at least one detector")
        if len({detector.heads.kind for detector in detectors}) > 1:
            _log.warning("SVM margins and softmax log odds are compared as they are: combine models of one kind")
        self.models = tuple(detectors)
        self.class_names = joint_class_names(detectors)

    def __repr__(self) -> str:
        return f"Ensemble([{', '.join(map(repr, self.models))}])"

    @property
    def detectors(self) -> tuple[Detector, ...]:
        """The detectors that `detect_in_inputs` takes: those of each model's own classes and of its added ones."""
        return tuple(part for each in self.models for part in each.detectors)

    @property
    def calibration(self) -> Calibration | None:
        """Calibration of a single model; several together have none."""
        return self.models[0].calibration if len(self.models) == 1 else None

    def detect_one(
        self, image: ImageLike, boxes: Boxes | None, thresholds: Thresholds, max_detections: int | None
    ) -> Detections:
        """Detect with all detectors together; see `DetectionModel.detect_one`. Equal proposers run once."""
        return detect_in_image(self.detectors, image, boxes, thresholds, max_detections)

    def detect_cached(
        self, caches: Sequence[FeatureCache], annotation: Annotation, record: Record | None = None
    ) -> Detections:
        """Detect in an image of a data set with all ``detectors``, each with its cache; see `detect_in_caches`."""
        return detect_in_caches([*zip(self.detectors, caches, strict=True)], annotation, record)

    def with_tiles(self, tiles: Tiles) -> Ensemble:
        """Return an ensemble that cuts images into these tiles; see `DetectionModel.with_tiles`."""
        return Ensemble([each.with_tiles(tiles) for each in self.models])


def load_ensemble(
    models: Sequence[str | Path] | None = None, device: str = "cpu", runtime: Runtime | None = None
) -> Ensemble:
    """Load one or more model files, by default the model of the package; see `Detector.load`."""
    paths: Sequence[str | Path | None] = models or [None]
    return Ensemble([Detector.load(path, device, runtime) for path in paths])
