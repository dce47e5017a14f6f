"""Minimum scores of the detections that are kept, by class: the default of a model, and those of a limit.

One place decides what a model shows by default: the command line, Python, the page and explanations call it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from detector.detections import labels_of
from detector.heads.calibration import Calibration
from detector.tiles import Tiles

Thresholds = NDArray[np.float32]

MIN_PROBABILITY = 0.3
"""Probability below which no detection is shown by default.

The best F1 of a weak class is at a low probability: this gains objects in images of the class, and floods all others.
"""
TOO_WEAK = (
    f"the model is too weak to show boxes by default: at no score, {100 * MIN_PROBABILITY:.0f} % of its held-out "
    "detections were right; label more images, or see its best guesses with --min-probability 0.05"
)


class Limits(TypedDict, total=False):
    """Keyword arguments of `score_thresholds`."""

    min_score: float | None
    min_probability: float | None
    precision: float | None
    classes: Collection[str] | None


class DetectionLimits(Limits, total=False):
    """Keyword arguments of `DetectionModel.detect`."""

    max_detections: int | None
    tiles: Tiles | None


def score_thresholds(
    calibration: Calibration | None,
    class_names: Sequence[str],
    min_score: float | None = None,
    min_probability: float | None = None,
    precision: float | None = None,
    classes: Collection[str] | None = None,
) -> Thresholds:
    """Return the minimum scores ``(K,)`` float32 of the classes for at most one of three limits.

    min_score: the same score for all classes.
    min_probability: 0..1, by the calibration.
    precision: .01 to .99, the score from which on held-out detections were that precise; infinite where none were.
    None of them: `default_thresholds`.
    classes: names of the classes to keep; infinite for the others.
    Raises ValueError for several limits, for the last two of them without a calibration, for a probability outside
    0..1, and for an unknown class.
    """
    limits = {"min_score": min_score, "min_probability": min_probability, "precision": precision}
    given = [name for name, value in limits.items() if value is not None]
    if len(given) > 1:
        raise ValueError("give at most one of min_score, min_probability and precision")
    if min_score is not None:
        with np.errstate(over="ignore"):  # numbers that are too large become infinite
            kept = np.full(len(class_names), min_score, np.float32)
    elif calibration is None:
        if given:
            raise ValueError(
                f"{given[0]} needs one model with a calibration; `spp calibrate` adds it from labeled images"
            )
        kept = np.zeros(len(class_names), np.float32)
    elif min_probability is not None:
        if not 0 <= min_probability <= 1:
            raise ValueError(f"min_probability must be in 0..1, but is {min_probability}")
        kept = calibration.reaching_probability(min_probability)
    elif precision is not None:
        kept = calibration.reaching_precision(precision)
    else:
        kept = default_thresholds(calibration)
    if classes is None:
        return kept
    wanted = np.isin(np.arange(len(class_names)), labels_of(classes, class_names))
    return np.where(wanted, kept, np.float32(np.inf))


def default_thresholds(calibration: Calibration) -> Thresholds:
    """Return the minimum scores ``(K,)`` of the detections shown by default; infinite for a class that is too weak.

    The score of the best F1 on held-out images, and at least that of a probability of `MIN_PROBABILITY`. A class is too
    weak if it never reached that precision there.
    """
    reached = np.isfinite(calibration.reaching_precision(MIN_PROBABILITY))
    scores = np.maximum(calibration.best_f1, calibration.reaching_probability(MIN_PROBABILITY))
    return np.where(reached, scores, np.float32(np.inf))
