"""Detect for CVAT: the function of cvat-cli task auto-annotate; see docs/labeling_tools.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from detector.ensemble import Ensemble, load_ensemble
from detector.runtime.optional import optional
from detector.tiles import parse_tiles

if TYPE_CHECKING:
    import PIL.Image


class DetectionFunction:
    """A detection function of CVAT's auto-annotation: rectangles for the classes of a model."""

    def __init__(self, model: Ensemble) -> None:
        self._model = model
        self._cvat = optional("cvat_sdk.auto_annotation")
        labels = [
            self._cvat.label_spec(name, number, type="rectangle") for number, name in enumerate(model.class_names)
        ]
        self.spec = self._cvat.DetectionFunctionSpec(labels=labels)

    def detect(self, context: Any, image: PIL.Image.Image) -> list[Any]:
        """Return CVAT's rectangles of an image, in pixels; the score of each is its probability.

        The confidence threshold of ``context`` is a minimum probability; without one, the thresholds of the model
        apply. They also do for a model without calibration, which has no probabilities.
        """
        limit = None if self._model.calibration is None else context.conf_threshold
        found = self._model.detect(image, min_probability=limit)
        scores = (
            [{}] * len(found) if found.probabilities is None else [{"score": float(p)} for p in found.probabilities]
        )
        return [
            self._cvat.rectangle(int(label), [float(corner) for corner in box], **score)
            for label, box, score in zip(found.labels, found.boxes, scores, strict=True)
        ]


def create(model: str = "", tiles: str = "") -> DetectionFunction:
    """Create the function: ``-p model=str:mine.safetensors -p tiles=str:auto``; by default the model of the package."""
    detector = load_ensemble([model] if model else None)
    return DetectionFunction(detector.with_tiles(parse_tiles(tiles)) if tiles else detector)
