"""Turn scores into probabilities, and keep the thresholds of best F1 and of each precision, per class.

Both are learned on held-out images.

A probability is the chance that VOC counts the detection as true: the first of its object, with IoU 0.5 or more.
J. Platt, Probabilistic outputs for support vector machines (1999): a sigmoid of the margin, per class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from detector.detections import Detections
from detector.runtime.array_files import Arrays

Floats = NDArray[np.float32]

PRECISIONS = 99
"""Number of precisions, .01 to .99, whose thresholds are kept."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Probabilities and thresholds of the scores of K classes.

    slopes, offsets: ``(K,)`` float32, no slope negative; the probability of a score is
        ``1 / (1 + exp(-(slope * score + offset)))``.
    best_f1: ``(K,)`` float32, the threshold of the best F1.
    at_precision: ``(99, K)`` float32, the lowest threshold with a precision of at least .01, .02 .. .99; infinite
        where no threshold reached it.
    Raises ValueError for arrays of other shapes, and for invalid values.
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
        """Add probabilities to detections, whose labels are indices into the K classes."""
        return replace(detections, probabilities=self.probabilities(detections.scores, detections.labels))

    def probabilities(self, scores: Floats, labels: NDArray[np.int64]) -> Floats:
        """Return the probabilities ``(N,)`` float32 of scores ``(N,)`` in the classes with these labels ``(N,)``."""
        log_odds = self.slopes[labels].astype(float) * scores + self.offsets[labels]
        return np.exp(-np.logaddexp(0, -log_odds)).astype(np.float32)

    def reaching_probability(self, probability: float) -> Floats:
        """Return the minimum score ``(K,)`` of each class with at least this probability; infinite where none has."""
        with np.errstate(divide="ignore", invalid="ignore"):
            log_odds = np.log(probability) - np.log1p(-probability)
            scores = (log_odds - self.offsets.astype(float)) / self.slopes
        # with slope 0, all scores of a class have one probability
        constant = np.where(self.offsets >= log_odds, -np.inf, np.inf)
        return np.where(self.slopes > 0, scores, constant).astype(np.float32)

    def reaching_precision(self, precision: float) -> Floats:
        """Return the minimum score ``(K,)`` of each class with a precision in 0..1, rounded up to hundredths."""
        # the shortest decimal of a product such as 100 * 0.29 is a hair above 29
        step = max(int(np.ceil(round(100 * precision, 6))), 1)
        if step > PRECISIONS:
            raise ValueError(f"thresholds are known up to a precision of {PRECISIONS / 100}, but not for {precision:g}")
        return self.at_precision[step - 1]

    def to_arrays(self) -> Arrays:
        """Return the arrays by name, as a model file holds them."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Calibration | None:
        """Build the calibration from the arrays of `to_arrays`; None for none. Raises KeyError for a missing one."""
        return cls(*(arrays[each.name] for each in fields(cls))) if arrays else None  # type: ignore[arg-type]

    def of_classes(self, labels: Sequence[int]) -> Calibration:
        """Return the calibration of the classes with these labels."""
        return Calibration(*(getattr(self, each.name)[..., list(labels)] for each in fields(self)))

    def __add__(self, other: Calibration) -> Calibration:
        """Join the calibrations of two sets of classes, those of ``other`` last."""
        pairs = ((getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        return Calibration(*(np.concatenate(pair, axis=-1) for pair in pairs))
