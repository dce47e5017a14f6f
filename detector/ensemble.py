"""Several detectors as one: what each found before the last suppression is put together (paper, section 4.4)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.config.detector import Config
from detector.detections import Detections
from detector.features.encoder import FeatureMaps
from detector.images.resizing import check_image
from detector.pipeline import Detector, Proposer
from detector.runtime.timing import stage

if TYPE_CHECKING:
    from detector.explanation.evidence import Evidence
    from detector.explanation.verdict import Verdict

Image = NDArray[np.uint8]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ensemble:
    """Detectors whose scored boxes are suppressed together, class by class name, by the recipe of the first.

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
        """Those of the first detector, then what others know beside them."""
        return tuple(dict.fromkeys(name for detector in self.detectors for name in detector.class_names))

    @property
    def config(self) -> Config:
        """The recipe of the first detector."""
        return self.detectors[0].config

    def detect(
        self,
        image: Image,
        boxes: Boxes | None = None,
        min_score: float | None = None,
        max_detections: int | None = None,
    ) -> Detections:
        """`Detector.detect` by all detectors together. Those that propose by the same recipe share their boxes."""
        return self.detect_in_maps(self.inputs(image, boxes), min_score, max_detections)

    def inputs(self, image: Image, boxes: Boxes | None = None) -> list[tuple[FeatureMaps, Boxes]]:
        """Feature maps of an image and its boxes, for each detector: what `detect_in_maps` takes."""
        image = check_image(image)
        proposed: dict[Any, Boxes] = {}
        inputs = []
        for detector in self.detectors:
            source = _source(detector.propose)
            if source not in proposed:
                with stage("proposals"):
                    proposed[source] = detector.propose(image) if boxes is None else as_boxes(boxes)
            inputs.append((detector.maps(image, proposed[source]), proposed[source]))
        return inputs

    def explain(self, image: Image, detections: Detections) -> list[Evidence]:
        """`Detector.explain`: a detection has the score, and so the evidence, of the detector that found it."""
        from detector.explanation.explainer import Explainer

        return Explainer(self, image).explain(detections)

    def explain_box(self, image: Image, box: Boxes, class_name: str) -> Verdict:
        """`Detector.explain_box`, by the detector that scores the box best."""
        from detector.explanation.explainer import Explainer

        return Explainer(self, image).explain_box(box, class_name)

    def detect_in_maps(
        self,
        inputs: Sequence[tuple[FeatureMaps, Boxes]],
        min_score: float | None = None,
        max_detections: int | None = None,
    ) -> Detections:
        """`detect` for an image whose feature maps and ``(R, 4)`` boxes, for each detector, are there already."""
        min_score, most = self.config.detection.limits(min_score, max_detections)
        detectors = [detector.keeping(most) for detector in self.detectors]
        names = self.class_names
        parts = []
        for detector, (maps, boxes) in zip(detectors, inputs, strict=True):
            least = min(min_score, detector.config.detection.min_score)
            parts.append(detector.candidates(maps, boxes, least))
        labels = [np.array([names.index(name) for name in part.class_names], np.int64)[part.labels] for part in parts]
        together = Detections(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate(labels),
            np.concatenate([part.scores for part in parts]),
            names,
        )
        return detectors[0].chosen(together).above(min_score).top(most)


def _source(propose: Proposer) -> Any:
    """What two proposers have in common, if they are of one recipe."""
    if isinstance(propose, partial):
        return propose.func, repr((propose.args, sorted(propose.keywords.items())))
    return propose


def load_ensemble(
    models: Sequence[str | Path] | None = None,
    device: str = "cpu",
    weights: Sequence[str | Path] | None = None,
    mirror: bool = True,
) -> Ensemble:
    """The detectors of one or more model files, by default the one that comes with the package.

    ``weights``, one a model, are where the backbones' weights are, if not (or "") where they were in training. Without
    ``mirror``, mirror images are left out even where a recipe asks for them. Raises what `Detector.load` does, and
    ValueError for another number of weights than of models.
    """
    paths: Sequence[str | Path | None] = models or [None]
    if weights and len(weights) != len(paths):
        raise ValueError(f"--weights must be given once for every --model, but there are {len(weights)}")
    files: Sequence[str | Path | None] = weights or [None] * len(paths)
    detectors = [Detector.load(path, device, file or None) for path, file in zip(paths, files, strict=True)]
    return Ensemble(detectors if mirror else [each.detecting(mirrored=False) for each in detectors])
