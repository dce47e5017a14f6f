"""Detectors with added classes: those of fakes, and their results by class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from detector.detection_model import DetectionModel
from detector.heads.calibration import PRECISIONS, Calibration
from detector.heads.linear import LinearSVMs
from detector.images.files import ImageLike
from detector.pipeline import Detector
from detector.training.class_changes import add_classes
from tests.fakes import fake_detector, with_heads


def bright(detector: Detector, name: str = "bright", **record: Any) -> Detector:
    """A detector of one class on the feature maps of a fake one: the sum of red and green, less 50."""
    svm = LinearSVMs(np.array([[1], [1], [0]], np.float32), np.full(1, -50, np.float32))
    heads = replace(detector.heads, scorer=svm, regressors=(), calibration=None)
    return replace(detector, heads=heads, class_names=(name,), record=record)


def fake_composite(calibrated: bool = False) -> Detector:
    """A fake detector of red and green, with the added class "bright"."""
    detector = fake_detector()
    added = bright(detector)
    if calibrated:
        detector = with_heads(detector, calibration=calibration([0.1, 0.2], [1, 2]))
        added = with_heads(added, calibration=calibration([0.3], [-3]))
    return add_classes(detector, added)


def calibration(slopes: list[float], offsets: list[float]) -> Calibration:
    """A calibration whose thresholds are 0."""
    values = np.array([slopes, offsets], np.float32)
    n_classes = len(slopes)
    zeros = np.zeros((PRECISIONS, n_classes), np.float32)
    return Calibration(values[0], values[1], zeros[0], zeros)


def by_class(model: DetectionModel, image: ImageLike, min_score: float = -2.0) -> dict[str, tuple[Any, ...]]:
    """Boxes, scores and probabilities of all detections in an image, as bytes, by class."""
    found = model.detect(image, min_score=min_score, max_detections=10_000)
    results: dict[str, tuple[Any, ...]] = {}
    for label, name in enumerate(found.class_names):
        own = found[np.flatnonzero(found.labels == label)]
        chances = None if own.probabilities is None else own.probabilities.tobytes()
        results[name] = own.boxes.tobytes(), own.scores.tobytes(), chances
    return results
