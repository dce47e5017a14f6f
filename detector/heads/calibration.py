"""From margins to probabilities, and the thresholds that reached a precision: learned on held-out images, by class.

A probability is that of a detection to be true as VOC counts: the first one of its object, with an IoU of at least 0.5.
J. Platt, Probabilistic outputs for support vector machines (1999): a sigmoid of the margin a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from detector.detections import Detections
from detector.runtime.files import Arrays

Floats = NDArray[np.float32]

PRECISIONS = 99
"""Thresholds are kept for precisions of 1, 2 .. 99 hundredths."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What held-out images say about the scores of K classes.

    slopes, offsets: ``(K,)`` float32, none of the slopes negative; a score is a probability of
        ``1 / (1 + exp(-(slope * score + offset)))``.
    best_f1: ``(K,)`` float32, the score from which on the F1 measure was best.
    at_precision: ``(99, K)`` float32, the least score from which on at least 1, 2 .. 99 % of the detections were true;
        infinite where no score reached it.
    Raises ValueError for arrays of other shapes, and values that are not such.
    """

    slopes: Floats
    offsets: Floats
    best_f1: Floats
    at_precision: Floats

    def __post_init__(self) -> None:
        if any(np.asarray(getattr(self, each.name)).dtype.kind not in "fiu" for each in fields(self)):
            raise ValueError("calibration: all values must be numbers")
        n_classes = np.size(self.slopes)
        for each in fields(self):
            array = np.asarray(getattr(self, each.name), np.float32)
            shape = (PRECISIONS, n_classes) if each.name == "at_precision" else (n_classes,)
            if array.shape != shape:
                raise ValueError(f"calibration: {each.name} must have shape {shape}, but got {array.shape}")
            if np.isnan(array).any():
                raise ValueError(f"calibration: {each.name} must not be NaN")
            object.__setattr__(self, each.name, array)
        if not np.isfinite(self.slopes).all() or not np.isfinite(self.offsets).all() or (self.slopes < 0).any():
            raise ValueError("calibration: slopes and offsets must be finite, and slopes not negative")

    def __call__(self, detections: Detections) -> Detections:
        """The detections with probabilities; labels are indices into the K classes."""
        labels = detections.labels
        log_odds = self.slopes[labels].astype(float) * detections.scores + self.offsets[labels]
        chances = np.exp(-np.logaddexp(0, -log_odds)).astype(np.float32)
        return Detections(detections.boxes, labels, detections.scores, detections.class_names, chances)

    def reaching_probability(self, probability: float) -> Floats:
        """The least score ``(K,)`` of each class whose probability is at least so much; infinite where none is."""
        with np.errstate(divide="ignore", invalid="ignore"):
            log_odds = np.log(probability) - np.log1p(-probability)
            scores = (log_odds - self.offsets.astype(float)) / self.slopes
        # a class that scores say nothing about has one probability
        constant = np.where(self.offsets >= log_odds, -np.inf, np.inf)
        return np.where(self.slopes > 0, scores, constant).astype(np.float32)

    def reaching_precision(self, precision: float) -> Floats:
        """The least score ``(K,)`` of each class that reached a precision in 0..1, rounded up to hundredths."""
        # the shortest decimal of a product such as 100 * 0.29 is a hair above 29
        step = max(int(np.ceil(round(100 * precision, 6))), 1)
        if step > PRECISIONS:
            raise ValueError(f"thresholds are known up to a precision of {PRECISIONS / 100}, but not for {precision:g}")
        return self.at_precision[step - 1]

    def to_arrays(self) -> Arrays:
        """The arrays by name, as model files hold them."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Calibration | None:
        """The inverse of `to_arrays`; None for no arrays at all. Raises KeyError for one that is missing."""
        return cls(*(arrays[each.name] for each in fields(cls))) if arrays else None  # type: ignore[arg-type]

    def of_classes(self, labels: Sequence[int]) -> Calibration:
        """That of some of the classes."""
        return Calibration(*(getattr(self, each.name)[..., list(labels)] for each in fields(self)))

    def __add__(self, other: Calibration) -> Calibration:
        """That of the classes of both, those of ``other`` last."""
        pairs = ((getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        return Calibration(*(np.concatenate(pair, axis=-1) for pair in pairs))
