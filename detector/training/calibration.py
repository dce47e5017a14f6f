"""Calibrate the scores of a detector: probabilities and thresholds from held-out images.

The SVMs of a model are trained on all images. Others, fitted without the samples of some part of the images, score that
part. Their detections are compared with the ground truth: this measures the model, and a sigmoid per class is fitted to
the outcomes (Platt 1999).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.config.detector import CalibrationConfig, Config
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.scenes import scenes
from detector.detections import Detections
from detector.evaluation.held_out import HeldOutResult, measure_held_out
from detector.evaluation.outcomes import gather_outcomes
from detector.heads.calibration import PRECISIONS, Calibration
from detector.heads.heads import Scorer
from detector.pipeline import Detector
from detector.runtime.optional import optional
from detector.runtime.progress import Progress, no_progress
from detector.scoring import detect_in_inputs
from detector.training.background import Background
from detector.training.sampling import validation_split
from detector.training.training_set import TrainingSet

Rows = NDArray[np.int64]
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

BORROWED = 20.0
"""Measured on VOC: with 36 held-out images of 20 classes, 10 to 30 gave an F1 of .61, and 0 gave .47."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOut:
    """Images that a detector was scored on without having been trained on them, and the detections in each.

    background: false detections in other photographs, for the calibration alone.
    """

    annotations: Sequence[Annotation]
    detections: Sequence[Detections]
    background: Sequence[Detections] = ()

    def calibration(self, class_names: Sequence[str]) -> Calibration | None:
        """Fit a calibration; return None, with a warning, if no object was found."""
        try:
            nothing = [_without_objects(f"background {number}") for number in range(len(self.background))]
            return fit_calibration([*self.detections, *self.background], [*self.annotations, *nothing], class_names)
        except ValueError as error:
            _log.warning("no probabilities: %s", error)
            return None

    def measure(self, class_names: Sequence[str]) -> HeldOutResult:
        """Measure average precision by area."""
        return measure_held_out(self.detections, self.dataset(class_names), "area")

    def dataset(self, class_names: Sequence[str]) -> Dataset:
        """Return the images as a data set, named after the method."""
        return Dataset(tuple(self.annotations), tuple(class_names), "the training data, by cross-validation")


def cross_validate(
    detector: Detector,
    images: TrainingSet,
    parts: Sequence[Rows],
    scorer_without: Callable[[Rows], Scorer],
    progress: Progress = no_progress,
) -> HeldOut:
    """Detect in ``parts`` of the images, rows each, by the scorer that was trained without the part."""
    held_out, found = [], []
    for number, part in enumerate(parts):
        scoring = replace(detector, heads=replace(detector.heads, scorer=scorer_without(part)))
        for row in progress(part.tolist(), f"cross-validation {number + 1} of {len(parts)}"):
            if images.annotations[row].window is not None:
                continue  # tiles are detected in with their image
            held_out.append(images.annotations[row])
            found.append(scoring.detect_cached(images.cache, held_out[-1]))
    return HeldOut(held_out, found)


def detect_background(detector: Detector, background: Background) -> list[Detections]:
    """Detect in the images of the background that were not trained on; all that may be an object is left out."""
    found = []
    for image in background.scored:
        maps = image.maps
        here = detect_in_inputs([detector], [(maps, detector.filter_proposals(maps, image.boxes))])
        objects = replace(image, boxes=here.boxes)
        found.append(here[objects.background_of(background.class_names)[np.arange(len(here)), here.labels]])
    return found


def _without_objects(image_id: str) -> Annotation:
    empty = np.zeros(0, np.int64)
    return Annotation(image_id, Path(image_id), np.zeros((0, 4), np.float32), empty, empty.astype(np.bool_))


def held_out_parts(images: TrainingSet, config: CalibrationConfig) -> list[Rows]:
    """Return the parts of the images, ascending rows, to hold out one after the other.

    A fraction ``held_out`` of many images is one part; few images are divided into such parts. Images of a scene are in
    one part, unless there is but one scene, and tiles in that of their image. An image stays out of the parts if a
    class would have no object left to train on without its part.
    """
    views, images = images, images.without_tiles()
    groups = scenes(images.annotations)
    if len(images) > 1 and not groups.any():
        _log.warning("all %d images show one scene: expect less of the model on others", len(images))
        groups = np.arange(len(images))
    sizes = np.bincount(groups)
    n_parts = min(round(1 / config.held_out), len(sizes))
    part_of_scene, part_sizes = np.zeros(len(sizes), np.int64), np.zeros(n_parts, np.int64)
    for scene in np.random.default_rng(config.seed).permutation(len(sizes)):
        part_of_scene[scene] = np.argmin(part_sizes)
        part_sizes[part_of_scene[scene]] += sizes[scene]
    parts = [np.flatnonzero(part_of_scene[groups] == number) for number in range(n_parts)]
    if len(images) >= config.cross_validate_below:
        parts = [min(parts, key=lambda part: abs(len(part) - len(images) * config.held_out))]
    removable = [kept for part in parts if len(kept := removable_rows(images, part))]
    return [views.rows_of({images.annotations[row].image_id for row in part}) for part in removable]


def held_out_ids(images: TrainingSet, config: Config) -> set[str]:
    """Return the ids of images that fine-tuned layers are not trained on, if every class has objects without them.

    End-to-end training holds out one of the `held_out_parts`; fc layers on frozen maps, their validation images.
    """
    if config.end_to_end.enabled:
        one_part = config.calibration.model_copy(update={"cross_validate_below": 0})
        rows = [int(row) for part in held_out_parts(images, one_part) for row in part]
    else:
        validation = validation_split(images, config.fine_tuning)[1].indices
        ids = {images.annotations[row].image_id for row in validation}
        images = images.without_tiles()
        rows = removable_rows(images, images.rows_of(ids)).tolist()
    return {images.annotations[row].image_id for row in rows}


def removable_rows(images: TrainingSet, part: Rows) -> Rows:
    """Return the rows of a part, except for images with the last objects of a class that has none outside of it."""
    counts = np.stack([images.object_counts([row]) for row in part.tolist()])
    emptied = counts.sum(axis=0) == images.object_counts()
    return part[~(counts[:, emptied] > 0).any(axis=1)]


def fit_calibration(
    detections: Sequence[Detections],
    annotations: Sequence[Annotation],
    class_names: Sequence[str],
    borrowed: float = BORROWED,
) -> Calibration:
    """Return the calibration of K classes from the detections in held-out images, one for each annotation.

    Labels of the annotations are indices into class_names. Every class is fitted to its own detections and, with so
    little weight that their true ones count as ``borrowed``, to those of all classes: few objects say less about a
    class than what classes have in common. Raises ValueError if no object was found.
    """
    outcomes = gather_outcomes(detections, annotations, class_names)
    if not outcomes.true.any():
        raise ValueError(f"no object in {len(annotations)} held-out images was found, nothing to calibrate on")
    counted, n_wanted = outcomes.counted, outcomes.n_wanted()
    scores, true, labels = outcomes.scores[counted], outcomes.true[counted], outcomes.labels[counted]
    shared_weight = min(borrowed / int(true.sum()), 1.0)
    columns: list[tuple[float, float, float, Floats]] = []
    for label, n_own in enumerate(n_wanted.tolist()):
        # a class without objects or detections is calibrated like all others
        known = n_own > 0 and (labels == label).any()
        weights = (labels == label) + shared_weight if known or shared_weight else np.ones(len(scores))
        n_objects = n_own + shared_weight * n_wanted.sum() if known or shared_weight else float(n_wanted.sum())
        kept = weights > 0
        slope, offset = fit_sigmoid(scores[kept], true[kept], weights[kept])
        best_f1, at_precision = fit_thresholds(scores[kept], true[kept], weights[kept], n_objects)
        columns.append((slope, offset, best_f1, at_precision))
    slopes, offsets, best, at_precisions = zip(*columns, strict=True)
    learned = np.array([slopes, offsets, best], np.float32)
    return Calibration(learned[0], learned[1], learned[2], np.stack(at_precisions, axis=1))


def with_calibration(detector: Detector, calibration: Calibration | None) -> Detector:
    """Return a copy of the detector with a calibration of all its classes, added ones included, or without one."""
    first, parts = 0, []
    for each in detector.detectors:
        labels = range(first, first := first + len(each.class_names))
        heads = replace(each.heads, calibration=calibration and calibration.of_classes(labels))
        parts.append(replace(each, heads=heads))
    return replace(detector, heads=parts[0].heads, added=tuple(parts[1:]))


def fit_sigmoid(scores: Values, true: Mask, weights: Values | None = None) -> tuple[float, float]:
    """Return slope and offset of the log odds of being ``true`` ``(N,)`` at ``scores`` ``(N,)``, with Platt's targets.

    These targets are inside 0 and 1 by a margin that shrinks with the number of examples, so that few or separable ones
    give no certainty. If the odds fall with the score, the slope is 0. ``weights`` ``(N,)`` count examples.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    n_true, n_false = weights[true].sum(), weights[~true].sum()
    targets = np.where(true, (n_true + 1) / (n_true + 2), 1 / (n_false + 2))
    if np.ptp(scores) > 0:
        # a fractional target is an example of both kinds, with weights
        examples, kinds = np.tile(scores, 2)[:, None], np.repeat([1, 0], len(scores))
        both_weights = np.concatenate([weights * targets, weights * (1 - targets)])
        regression = optional("sklearn.linear_model", "train").LogisticRegression
        fitted = regression(C=np.inf, solver="newton-cholesky", tol=1e-8).fit(examples, kinds, both_weights)
        if fitted.coef_[0, 0] > 0:
            return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    mean = np.average(targets, weights=weights)
    return 0.0, float(np.log(mean / (1 - mean)))


def fit_thresholds(scores: Values, true: Mask, weights: Values, n_objects: float) -> tuple[float, Floats]:
    """Return the threshold of the best F1, and the lowest ones ``(99,)`` with a precision of 1, 2 .. 99 %.

    Infinite for a precision that no threshold reaches. ``weights`` ``(N,)`` count detections, ``n_objects`` the objects
    to find.
    """
    order = np.argsort(-scores, kind="stable")
    n_true, n_found = np.cumsum((weights * true)[order]), np.cumsum(weights[order])
    # equal scores share a threshold
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    thresholds, n_true, n_found = scores[order][last], n_true[last], n_found[last]
    best = int(np.argmax(2 * n_true / (n_found + n_objects)))
    levels = np.arange(1, PRECISIONS + 1)[:, None]
    # integers are exact, and sums of weights nearly so
    reached = 100 * n_true >= levels * n_found * (1 - 1e-9)
    return float(thresholds[best]), np.where(reached, thresholds, np.inf).min(axis=1).astype(np.float32)
