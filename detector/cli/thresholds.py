"""Options that say which detections are kept: by score, by probability, or by the precision they reached."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detector.cli.console import Parser

if TYPE_CHECKING:
    from detector.ensemble import Ensemble


def add_threshold_options(parser: Parser, default: str) -> None:
    """At most one of ``--min-score``, ``--min-probability`` and ``--precision``; ``default``: what is kept without."""
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--min-score", type=number, metavar="S", help=f"least SVM margin (default: {default})")
    one.add_argument(
        "--min-probability", type=fraction, metavar="P", help="least probability, by a model with a calibration"
    )
    one.add_argument(
        "--precision", type=fraction, metavar="P", help="the thresholds of the model that reached it, 0.01 to 0.99"
    )


def number(text: str) -> float:
    """Type of an option that takes any number but NaN."""
    try:
        value = float(text)
    except ValueError:
        raise ArgumentTypeError(f"invalid float value: {text!r}") from None
    if np.isnan(value):
        raise ArgumentTypeError(f"must be a number, but is {text}")
    return value


def fraction(text: str) -> float:
    """Type of an option that takes 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"must be in 0..1, but is {text}")
    return value


def check_thresholds(options: Namespace) -> None:
    """Raise ValueError, before a model is loaded, for thresholds that none has."""
    if options.precision is not None and not 0.01 <= options.precision <= 0.99:
        raise ValueError(f"--precision must be in 0.01..0.99, but is {options.precision:g}")


def thresholds(options: Namespace, detector: Ensemble) -> NDArray[np.float32] | None:
    """The least score ``(K,)`` of each class by the options; None where none is given.

    Raises ValueError for a model without a calibration where one is needed.
    """
    if options.min_score is not None:
        return np.full(len(detector.class_names), options.min_score, np.float32)
    named = "--precision" if options.precision is not None else "--min-probability"
    if options.precision is None and options.min_probability is None:
        return None
    if len(detector.detectors) > 1:
        raise ValueError(f"{named} goes with one model: scores of several have no probabilities")
    if detector.calibration is None:
        raise ValueError(f"{named} needs a model with a calibration; spp calibrate gives it one, from labeled images")
    if options.precision is None:
        return detector.calibration.reaching_probability(options.min_probability)
    least = detector.calibration.reaching_precision(options.precision)
    if lacking := [name for name, score in zip(detector.class_names, least, strict=True) if np.isposinf(score)]:
        print(
            f"precision {options.precision:g} was not reached, and nothing is kept, of {', '.join(lacking)}",
            file=sys.stderr,
        )
    return least


def default_thresholds(detector: Ensemble) -> NDArray[np.float32]:
    """What detections are shown without an option: from the best F1 of a calibrated model on, else from 0 on."""
    if detector.calibration is None:
        return np.zeros(len(detector.class_names), np.float32)
    return detector.calibration.best_f1
