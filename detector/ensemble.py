"""Several detectors as one: what each found before the last suppression is put together (paper, section 4.4)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes
from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.features.cache import FeatureCache
from detector.heads.calibration import Calibration
from detector.images.files import ImageLike
from detector.pipeline import Detector, detect_in_image, detect_in_inputs, joint_class_names
from detector.runtime.openvino import Runtime

if TYPE_CHECKING:
    from detector.explanation.attribution import Evidence
    from detector.explanation.diagnosis import Verdict

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ensemble:
    """Detectors whose scored boxes are suppressed together, class by class name, by the settings of the first.

    The paper's gain came of different networks; two trainings on the same convolution gained nothing. Scores are
    compared as they are: combine SVMs with SVMs, or softmaxes with softmaxes. Raises ValueError for no detector.
    """

    detectors: Sequence[Detector]

    def __post_init__(self) -> None:
        if not self.detectors:
            raise ValueError("an ensemble needs at least one detector")
        if len({type(detector.scorer) for detector in self.detectors}) > 1:
            _log.warning(
                "margins of SVMs and log odds of a softmax are compared as they are: combine models of one kind"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of the first detector, then what others know besides."""
        return joint_class_names(self.detectors)

    @property
    def calibration(self) -> Calibration | None:
        """That of the one detector; several together have none."""
        return self.detectors[0].calibration if len(self.detectors) == 1 else None

    def detect(
        self,
        image: ImageLike,
        boxes: Boxes | None = None,
        min_score: float | None = None,
        max_detections: int | None = None,
    ) -> Detections:
        """`Detector.detect` by all detectors together. Those that propose alike share their boxes."""
        return detect_in_image(self.detectors, image, boxes, min_score, max_detections)

    def explain(self, image: NDArray[np.uint8], detections: Detections) -> list[Evidence]:
        """`Detector.explain`: a detection has the score, and so the evidence, of the detector that found it."""
        from detector.explanation.explainer import Explainer

        return Explainer(self.detectors, image).explain(detections)

    def explain_box(self, image: NDArray[np.uint8], box: Boxes, class_name: str) -> Verdict:
        """`Detector.explain_box`, by the detector that scores the box best."""
        from detector.explanation.explainer import Explainer

        return Explainer(self.detectors, image).explain_box(box, class_name)

    def detect_cached(self, caches: Sequence[FeatureCache], annotation: Annotation) -> Detections:
        """`Detector.detect_cached` by all detectors together, each with its cache."""
        pairs = zip(self.detectors, caches, strict=True)
        return detect_in_inputs(self.detectors, [each.cached_inputs(cache, annotation) for each, cache in pairs])


def load_ensemble(
    models: Sequence[str | Path] | None = None,
    device: str = "cpu",
    weights: Sequence[str | Path] | None = None,
    mirror: bool = True,
    runtime: Runtime | None = None,
) -> Ensemble:
    """The detectors of one or more model files, by default the one that comes with the package.

    ``weights``, one a model, are where the backbones' weights are, if not (or "") where they were in training. Without
    ``mirror``, mirror images are left out even where a recipe asks for them. ``runtime`` computes the networks, if not
    what the models say. Raises what `Detector.load` does, and
    ValueError for another number of weights than of models.
    """
    paths: Sequence[str | Path | None] = models or [None]
    if weights and len(weights) != len(paths):
        raise ValueError(f"--weights must be given once for every --model, but there are {len(weights)}")
    files: Sequence[str | Path | None] = weights or [None] * len(paths)
    detectors = [Detector.load(path, device, file or None, runtime) for path, file in zip(paths, files, strict=True)]
    return Ensemble(detectors if mirror else [each.detecting(mirrored=False) for each in detectors])
