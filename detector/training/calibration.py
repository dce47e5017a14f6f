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

from detector.config.detector import CalibrationConfig
from detector.datasets.annotation import Annotation
from detector.detections import Detections
from detector.evaluation.outcomes import gather_outcomes
from detector.evaluation.thresholds import ThresholdCurve, threshold_curve
from detector.evaluation.voc import by_class
from detector.heads.calibration import PRECISIONS, Calibration
from detector.heads.heads import Scorer
from detector.pipeline import Detector
from detector.runtime.optional import optional
from detector.runtime.progress import Progress, without_progress
from detector.training.training_set import TrainingSet

Rows = NDArray[np.int64]

_log = logging.getLogger(__name__)


def fit_calibration(
    detections: Sequence[Detections], annotations: Sequence[Annotation], class_names: Sequence[str]
) -> Calibration:
    """The calibration of K classes from the detections in held-out images, one for each of the ``annotations``.

    labels of the annotations are indices into class_names. A class without an object or a detection there gets what
    all classes together say. Raises ValueError where no object is found at all.
    """
    image_ids = [each.image_id for each in annotations]
    outcomes = gather_outcomes(by_class(image_ids, detections), annotations, class_names)
    if not outcomes.true.any():
        raise ValueError(
            f"none of the objects of {len(annotations)} held-out images was found: nothing to calibrate by"
        )
    slopes, offsets, best_f1, at_precision = [], [], [], []
    for label in range(len(class_names)):
        rows, curve = outcomes.of_class(label), threshold_curve(outcomes, label)
        if not curve.n_objects or not len(curve.thresholds):
            rows, curve = slice(None), threshold_curve(outcomes)
        counted = outcomes.counted[rows]
        slope, offset = fit_sigmoid(outcomes.scores[rows][counted], outcomes.true[rows][counted])
        slopes.append(slope)
        offsets.append(offset)
        best_f1.append(curve.best.threshold)
        at_precision.append(precision_thresholds(curve))
    columns = slopes, offsets, best_f1, np.stack(at_precision, axis=1)
    return Calibration(*(np.asarray(column, np.float32) for column in columns))


def fit_sigmoid(scores: NDArray[np.float64], true: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of the log odds of being ``true`` ``(N,)`` at ``scores`` ``(N,)``, with the targets of Platt.

    Those are a little inside 0 and 1, by what so many examples can tell, so that few of them, or all on their side of a
    score, give no certainty. Where odds fall with the score, the slope is 0.
    """
    n_true, n_false = int(true.sum()), int((~true).sum())
    targets = np.where(true, (n_true + 1) / (n_true + 2), 1 / (n_false + 2))
    # a target between is an example of both, with weights
    examples, weights = np.tile(scores, 2)[:, None], np.concatenate([targets, 1 - targets])
    kinds = np.repeat([1, 0], len(scores))
    if np.ptp(scores) > 0:
        regression = optional("sklearn.linear_model", "train").LogisticRegression
        fitted = regression(C=np.inf, solver="newton-cholesky", tol=1e-8).fit(examples, kinds, weights)
        if fitted.coef_[0, 0] > 0:
            return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    mean = targets.mean()
    return 0.0, float(np.log(mean / (1 - mean)))


def precision_thresholds(curve: ThresholdCurve) -> NDArray[np.float32]:
    """The least threshold ``(99,)`` at which 1, 2 .. 99 % are true; infinite where none is."""
    levels = np.arange(1, PRECISIONS + 1)[:, None]
    # in whole numbers: 0.29 of 100 is 29
    reached = 100 * curve.n_true >= levels * (curve.n_true + curve.n_false)
    thresholds = np.where(reached, curve.thresholds, np.inf)
    return thresholds.min(axis=1, initial=np.inf).astype(np.float32)


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
    if len(images) >= config.all_below:
        parts = parts[:1]
    return [kept for part in parts if len(kept := learnable_without(images, part))]


def learnable_without(images: TrainingSet, part: Rows) -> Rows:
    """The rows of a part but for those without which a class would have no object left to learn from."""
    counts = np.stack([images.object_counts([row]) for row in part.tolist()])
    emptied = counts.sum(axis=0) == images.object_counts()
    return part[~(counts[:, emptied] > 0).any(axis=1)]
