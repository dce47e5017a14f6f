"""From a data set to a detector: cache features, mine and fit the SVMs, fit the box regressors."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, encode_deltas, iou
from detector.config import Config, RegressionConfig, SVMConfig
from detector.detections import Detections
from detector.features.cache import FeatureCache
from detector.files import fingerprint
from detector.heads.checkpoint import load_state, save_state
from detector.heads.mining import Bank, MiningSettings, MiningState, mine
from detector.heads.regression import BoxRegressors, assign_boxes, fit_regressor
from detector.heads.svm import LinearSVMs, SVMProblem, solve_liblinear, solve_primal
from detector.pipeline import Detector, build_encoder, build_proposer
from detector.progress import Progress, without_progress
from detector.training_set import Annotation, Annotations, TrainingSet, scaled


def build_cache(
    config: Config, directory: Path, device: str = "cpu", precomputed: Mapping[str, Boxes] | None = None
) -> FeatureCache:
    """The cache under ``directory`` of the feature maps and proposals (or ``precomputed`` boxes) of a recipe."""
    encoder, propose = build_encoder(config.features, device), build_proposer(config.proposals)
    return FeatureCache(directory, encoder, propose, config.proposals.model_dump(), precomputed)


def cache_of(detector: Detector, directory: Path, precomputed: Mapping[str, Boxes] | None = None) -> FeatureCache:
    """The cache under ``directory`` of a detector's own feature maps and proposals (or ``precomputed`` boxes)."""
    settings = detector.config.proposals.model_dump()
    return FeatureCache(directory, detector.encoder, detector.propose, settings, precomputed)


def detect_cached(
    detector: Detector, cache: FeatureCache, annotations: Iterable[Annotation], progress: Progress = without_progress
) -> list[Detections]:
    """What a detector finds in each picture, from features in ``cache``; what is missing there is computed."""
    found = []
    for each in progress(annotations, "detect"):
        maps, boxes = cache.maps(each.image_id, each.path), cache.proposals(each.image_id, each.path)
        found.append(detector.detect_in_maps(maps, boxes))
    return found


def fill_cache(cache: FeatureCache, annotations: Iterable[Annotation], progress: Progress = without_progress) -> None:
    """Compute what the cache lacks; killed and started again, it goes on where it was.

    Several processes may fill one cache at a time.
    """
    missing = [each for each in annotations if not cache.is_complete(each.image_id)]
    # begin anywhere, lest two processes compute the same pictures side by side
    start = random.randrange(len(missing)) if missing else 0
    for each in progress(missing[start:] + missing[:start], "features"):
        if not cache.is_complete(each.image_id):
            cache.proposals(each.image_id, each.path)
            cache.maps(each.image_id, each.path)


def train_svms(
    pictures: TrainingSet, config: SVMConfig, checkpoint: Path, progress: Progress = without_progress
) -> LinearSVMs:
    """Mine hard negatives over ``pictures`` and fit one linear SVM a class, for plain features.

    The state after every fit is kept in the file ``checkpoint``, from which a second call goes on.
    """
    problem = SVMProblem(config.loss, config.C, config.positive_weight, config.bias_multiplier)
    solver = {"primal": solve_primal, "liblinear": solve_liblinear}[config.solver]
    settings = MiningSettings(
        add_above=config.add_above,
        evict_below=config.evict_below,
        max_per_picture=config.max_per_picture,
        seed=config.seed,
    )
    bank = Bank(config.max_samples, pictures.cache.encoder.n_features, pictures.n_classes)
    state = load_state(checkpoint, pictures, bank) or MiningState(bank)
    svms = mine(pictures, problem, solver, settings, state, progress, partial(save_state, checkpoint))
    return LinearSVMs(*pictures.unscaled(svms.weights, svms.biases))


def train_regressors(
    pictures: TrainingSet, config: RegressionConfig, seed: int, progress: Progress = without_progress
) -> BoxRegressors:
    """Fit one box regressor a class on boxes that overlap an object of it by more than ``config.min_iou``.

    At most ``config.max_samples`` boxes a class, drawn at random, so that memory is bounded by that number of
    features. Features are pooled class by class; a class without a box moves nothing.
    """
    examples = _regression_examples(pictures, config.min_iou)
    rng = np.random.default_rng(seed)
    n_features = pictures.cache.encoder.n_features
    weights = np.zeros((pictures.n_classes, n_features, 4), np.float32)
    biases = np.zeros((pictures.n_classes, 4), np.float32)
    for label in progress(range(pictures.n_classes), "box regressors"):
        rows = np.flatnonzero(examples.labels == label)
        rows = np.sort(rng.permutation(rows)[: config.max_samples])
        if not len(rows):
            continue
        features = np.empty((len(rows), n_features), np.float32)
        for picture in np.unique(examples.pictures[rows]):
            here = examples.pictures[rows] == picture
            features[here] = pictures.features(int(picture), examples.boxes[rows[here]])
        deltas = encode_deltas(examples.boxes[rows], examples.truths[rows])
        fitted = fit_regressor(features, deltas, config.regularisation)
        weights[label], biases[label] = pictures.unscaled(*fitted)
    return BoxRegressors(weights, biases)


@dataclass(frozen=True)
class _Examples:
    """Boxes to move ``(n, 4)`` and where to ``(n, 4)``, with the picture and the label of each ``(n,)``."""

    boxes: Boxes
    truths: Boxes
    pictures: NDArray[np.int64]
    labels: NDArray[np.int64]


def _regression_examples(pictures: TrainingSet, min_iou: float) -> _Examples:
    parts: list[tuple[Boxes, Boxes, NDArray[np.int64], NDArray[np.int64]]] = []
    for index, annotation in enumerate(pictures.annotations):
        boxes, _ = pictures.boxes(index)
        rows, objects = assign_boxes(iou(boxes, annotation.boxes), annotation.labels, min_iou)
        parts.append((boxes[rows], annotation.boxes[objects], np.full(len(rows), index), annotation.labels[objects]))
    return _Examples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def train(
    config: Config,
    annotations: Annotations,
    class_names: Sequence[str],
    cache: FeatureCache,
    progress: Progress = without_progress,
) -> Detector:
    """Train a detector on annotated pictures, from features in ``cache``; what is missing there is computed.

    Killed and called again, it goes on from its last fit to the same result. Raises ValueError, before any work, for a
    class without an object to learn from.
    """
    counts = np.zeros(len(class_names), np.int64)
    for each in annotations:
        labels = each.labels if config.svm.difficult else each.labels[~each.difficult]
        counts += np.bincount(labels, minlength=len(class_names))
    if not counts.all():
        empty = ", ".join(name for name, count in zip(class_names, counts, strict=True) if not count)
        raise ValueError(f"no object to learn from in {len(annotations)} pictures: {empty}")
    fill_cache(cache, annotations, progress)
    pictures = TrainingSet(annotations, len(class_names), cache, config.svm.max_negative_iou, config.svm.difficult)
    pictures = scaled(pictures, config.svm.mean_norm, config.svm.centre, config.svm.seed)
    checkpoint = _checkpoint(config, annotations, cache)
    svms = train_svms(pictures, config.svm, checkpoint, progress)
    regressors = None
    if config.regression.enabled:
        regressors = train_regressors(pictures, config.regression, config.svm.seed, progress)
    checkpoint.unlink(missing_ok=True)
    return Detector(cache.propose, cache.encoder, svms, regressors, tuple(class_names), config)


def _checkpoint(config: Config, annotations: Annotations, cache: FeatureCache) -> Path:
    """Where the state of a training is kept: another file for anything that would change its result."""
    objects = hashlib.sha256()
    for each in annotations:
        boxes = cache.proposals(each.image_id, each.path)
        for part in (each.image_id.encode(), each.boxes, each.labels, each.difficult, boxes):
            objects.update(bytes(part))
    settings = {"config": config.model_dump(mode="json"), "data": objects.hexdigest()}
    return cache.directory / f"training-{fingerprint({**settings, 'maps': cache.maps_directory.name})}.safetensors"
