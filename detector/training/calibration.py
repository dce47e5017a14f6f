"""Probabilities and thresholds from held-out images: those that the SVMs did not learn from.

The SVMs of a model learn from all images. Others, which learn from all but a part, score that part; what they find is
compared with the ground truth, and tells of every class how likely a detection of a score is true (Platt 1999).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detector.config.detector import CalibrationConfig, FineTuningConfig
from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.evaluation.outcomes import gather_outcomes
from detector.evaluation.voc import by_class
from detector.heads.calibration import PRECISIONS, Calibration
from detector.heads.heads import Scorer
from detector.pipeline import Detector
from detector.runtime.optional import optional
from detector.runtime.progress import Progress, without_progress
from detector.training.sampling import validation_split
from detector.training.training_set import TrainingSet

Rows = NDArray[np.int64]
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

BORROWED = 20.0
"""Measured on VOC: with 36 held-out images of 20 classes, 10 to 30 gave an F1 of .61 where 0 gave .47."""

_log = logging.getLogger(__name__)


def fit_calibration(
    detections: Sequence[Detections],
    annotations: Sequence[Annotation],
    class_names: Sequence[str],
    borrowed: float = BORROWED,
) -> Calibration:
    """The calibration of K classes from the detections in held-out images, one for each of the ``annotations``.

    labels of the annotations are indices into class_names. Every class learns from its own detections and, with so
    little weight that their true ones count as ``borrowed``, from those of all classes: a handful of objects says less
    of a class than what classes have in common. Raises ValueError where no object is found at all.
    """
    image_ids = [each.image_id for each in annotations]
    outcomes = gather_outcomes(by_class(image_ids, detections), annotations, class_names)
    if not outcomes.true.any():
        raise ValueError(
            f"none of the objects of {len(annotations)} held-out images was found: nothing to calibrate by"
        )
    counted, n_wanted = outcomes.counted, outcomes.n_wanted()
    scores, true, labels = outcomes.scores[counted], outcomes.true[counted], outcomes.labels[counted]
    share = min(borrowed / int(true.sum()), 1.0)
    columns: list[tuple[float, float, float, Floats]] = []
    for label, n_own in enumerate(n_wanted.tolist()):
        # a class of which nothing is known is like all others
        known = n_own > 0 and (labels == label).any()
        weights = (labels == label) + share if known or share else np.ones(len(scores))
        n_objects = n_own + share * n_wanted.sum() if known or share else float(n_wanted.sum())
        kept = weights > 0
        slope, offset = fit_sigmoid(scores[kept], true[kept], weights[kept])
        best_f1, at_precision = fit_thresholds(scores[kept], true[kept], weights[kept], n_objects)
        columns.append((slope, offset, best_f1, at_precision))
    slopes, offsets, best, reaching = zip(*columns, strict=True)
    learned = np.array([slopes, offsets, best], np.float32)
    return Calibration(learned[0], learned[1], learned[2], np.stack(reaching, axis=1))


def fit_sigmoid(scores: Values, true: Mask, weights: Values | None = None) -> tuple[float, float]:
    """Slope and offset of the log odds of being ``true`` ``(N,)`` at ``scores`` ``(N,)``, with the targets of Platt.

    Those are a little inside 0 and 1, by what so many examples can tell, so that few of them, or all on their side of a
    score, give no certainty. Where odds fall with the score, the slope is 0. ``weights`` ``(N,)`` count examples.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    n_true, n_false = weights[true].sum(), weights[~true].sum()
    targets = np.where(true, (n_true + 1) / (n_true + 2), 1 / (n_false + 2))
    if np.ptp(scores) > 0:
        # a target between is an example of both, with weights
        examples, kinds = np.tile(scores, 2)[:, None], np.repeat([1, 0], len(scores))
        of_both = np.concatenate([weights * targets, weights * (1 - targets)])
        regression = optional("sklearn.linear_model", "train").LogisticRegression
        fitted = regression(C=np.inf, solver="newton-cholesky", tol=1e-8).fit(examples, kinds, of_both)
        if fitted.coef_[0, 0] > 0:
            return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    mean = np.average(targets, weights=weights)
    return 0.0, float(np.log(mean / (1 - mean)))


def fit_thresholds(scores: Values, true: Mask, weights: Values, n_objects: float) -> tuple[float, Floats]:
    """The score from which on F1 is best, and the least ones ``(99,)`` from which on 1, 2 .. 99 % are true.

    Infinite where no score reaches a precision. ``weights`` ``(N,)`` count detections, ``n_objects`` those to be found.
    """
    order = np.argsort(-scores, kind="stable")
    n_true, n_found = np.cumsum((weights * true)[order]), np.cumsum(weights[order])
    # equal scores are taken together
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    thresholds, n_true, n_found = scores[order][last], n_true[last], n_found[last]
    best = int(np.argmax(2 * n_true / (n_found + n_objects)))
    levels = np.arange(1, PRECISIONS + 1)[:, None]
    # whole numbers are exact, and sums of weights nearly so
    reached = 100 * n_true >= levels * n_found * (1 - 1e-9)
    return float(thresholds[best]), np.where(reached, thresholds, np.inf).min(axis=1).astype(np.float32)


def calibrate(
    detector: Detector,
    images: TrainingSet,
    parts: Sequence[Rows],
    train: Callable[[Sequence[Annotation], int], Scorer],
    progress: Progress = without_progress,
) -> Calibration | None:
    """The calibration of a detector by ``parts`` of its images, rows each, that are held out one after another.

    ``train`` gives the scorer that learned from the annotations given, without a part of this number. None, and a line
    that says so, where the parts tell nothing.
    """
    cache, held_out, found = images.cache, [], []
    for number, part in enumerate(parts):
        learned = np.setdiff1d(np.arange(len(images)), part)
        scoring = replace(detector, scorer=train([images.annotations[row] for row in learned], number))
        for row in progress(part.tolist(), f"calibration {number + 1} of {len(parts)}"):
            held_out.append(images.annotations[row])
            found.append(scoring.detect_cached(cache, held_out[-1]))
    try:
        return fit_calibration(found, held_out, detector.class_names)
    except ValueError as error:
        _log.warning("no probabilities: %s", error)
        return None


def held_out_parts(images: TrainingSet, config: CalibrationConfig) -> list[Rows]:
    """Parts of the images, ascending rows, to be held out one after another.

    One ``held_out`` share of them or, of few images, all such shares. An image stays out of them where a class would
    have nothing left to learn from without its part.
    """
    n_parts = min(round(1 / config.held_out), len(images))
    order = np.random.default_rng(config.seed).permutation(len(images))
    parts = [np.sort(order[first::n_parts]) for first in range(n_parts)]
    if len(images) >= config.cross_validate_below:
        parts = parts[:1]
    return [kept for part in parts if len(kept := learnable_without(images, part))]


def shown_to_none(images: TrainingSet, config: FineTuningConfig) -> set[str]:
    """Ids of the images that fine-tuned layers do not learn from, as far as every class has objects without them."""
    held_out = validation_split(images, config)[1].indices
    return {images.annotations[row].image_id for row in learnable_without(images, held_out)}


def learnable_without(images: TrainingSet, part: Rows) -> Rows:
    """The rows of a part but for those without which a class would have no object left to learn from."""
    counts = np.stack([images.object_counts([row]) for row in part.tolist()])
    emptied = counts.sum(axis=0) == images.object_counts()
    return part[~(counts[:, emptied] > 0).any(axis=1)]
