"""Detect with several models as with one: scored boxes are joined before suppression (paper, section 4.4)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.boxes import Boxes
from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.features.cache import FeatureCache
from detector.heads.calibration import Calibration
from detector.images.files import ImageLike
from detector.pipeline import Detector, Thresholds, detect_in_inputs, inputs_of, joint_class_names, score_thresholds
from detector.runtime.openvino import Runtime

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ensemble:
    """Detectors whose scored boxes are suppressed together, class by class name, by the settings of the first.

    The paper's gain came from different networks; two trainings on the same convolution gained nothing. Scores are
    compared as they are: combine SVMs with SVMs, or softmaxes with softmaxes. Raises ValueError for no detector.
    """

    detectors: Sequence[Detector]

    def __post_init__(self) -> None:
        if not self.detectors:
            raise ValueError("an ensemble needs at least one detector")
        if len({type(detector.heads.scorer) for detector in self.detectors}) > 1:
            _log.warning("SVM margins and softmax log odds are compared as they are: combine models of one kind")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names of the first detector, then those that only later ones know."""
        return joint_class_names(self.detectors)

    @property
    def calibration(self) -> Calibration | None:
        """Calibration of a single detector; several together have none."""
        return self.detectors[0].heads.calibration if len(self.detectors) == 1 else None

    @property
    def default_thresholds(self) -> Thresholds:
        """Minimum scores ``(K,)`` of the detections shown by default: those of a single detector; 0 for several."""
        return self.thresholds()

    def thresholds(
        self, min_score: float | None = None, min_probability: float | None = None, precision: float | None = None
    ) -> Thresholds:
        """Return the minimum scores ``(K,)`` float32 of the classes; see `pipeline.score_thresholds`."""
        return score_thresholds(self.calibration, len(self.class_names), min_score, min_probability, precision)

    def detect(
        self,
        image: ImageLike,
        boxes: Boxes | None = None,
        *,
        min_score: float | None = None,
        min_probability: float | None = None,
        precision: float | None = None,
        max_detections: int | None = None,
    ) -> Detections:
        """Detect with all detectors together; see `Detector.detect`. Equal proposers run once."""
        thresholds = self.thresholds(min_score, min_probability, precision)
        return detect_in_inputs(self.detectors, inputs_of(self.detectors, image, boxes), thresholds, max_detections)

    def detect_cached(self, caches: Sequence[FeatureCache], annotation: Annotation) -> Detections:
        """Detect in an image of a data set with all detectors, each with its cache; see `Detector.detect_cached`."""
        pairs = zip(self.detectors, caches, strict=True)
        return detect_in_inputs(self.detectors, [each.cached_inputs(cache, annotation) for each, cache in pairs])


def load_ensemble(
    models: Sequence[str | Path] | None = None, device: str = "cpu", runtime: Runtime | None = None
) -> Ensemble:
    """Load one or more model files, by default the model of the package; see `Detector.load`."""
    paths: Sequence[str | Path | None] = models or [None]
    return Ensemble([Detector.load(path, device, runtime) for path in paths])
