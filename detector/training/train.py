"""Train a detector on annotated images. Each step builds on the results of the steps before it.

::

    annotated images      --end-to-end training, optional-->    backbone, fc layers, softmax, box regressors
    backbone, images      --cache-->                            feature maps and proposals on disk
    cached features       --fine-tuning, optional-->            fc layers, softmax
    fc layers, features   --mining, ridge regression-->         linear SVMs, box regressors, unless trained before
    detector, images      --calibration, optional-->            probabilities and thresholds
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.backbones.weights import Arrays
from detector.build import build_encoder
from detector.config.detector import Config, FeatureConfig
from detector.datasets.dataset import Annotation, Dataset
from detector.features.cache import CacheWorkers, FeatureCache, fill_cache
from detector.features.encoder import Encoder
from detector.heads.fully_connected import FullyConnected, Softmax
from detector.heads.heads import Heads, Scorer
from detector.heads.linear import BoxRegressors
from detector.pipeline import Detector
from detector.runtime.progress import Progress, no_progress
from detector.scoring import OBJECT_SIDE
from detector.training.background import Background
from detector.training.box_regression import train_regressors
from detector.training.calibration import HeldOut, Rows, cross_validate, detect_background, held_out_ids, held_out_parts
from detector.training.checkpoints import NOT_FINGERPRINTED, data_digest, state_file
from detector.training.proposal_filter import proposal_filter_images, train_proposal_filter
from detector.training.sampling import validation_split
from detector.training.svm.mining import START_IMAGES, START_SAMPLES
from detector.training.svm.training import TrainedSVMs, sample_capacity, train_svms
from detector.training.tiling import object_side, training_views, with_tile_size
from detector.training.training_set import TrainingSet, scaled

_log = logging.getLogger(__name__)

CROSS_VALIDATION = "cross_validation"
"""Key of a record for the numbers of `HeldOut.measure`."""

if TYPE_CHECKING:
    from detector.training.end_to_end.fc_layers import FineTunedLayers


def with_record(detector: Detector, dataset: Dataset, seconds: float) -> Detector:
    """Return the detector with a record of its training data, the date, and the ``seconds`` that it took."""
    record: dict[str, Any] = {
        "trained_on": dataset.name,
        "images": len(dataset),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(seconds),
    }
    if (side := object_side(dataset)) is not None:
        record[OBJECT_SIDE] = round(side, 1)
    return replace(detector, record={**detector.record, **record})


def train(
    config: Config,
    annotations: Sequence[Annotation],
    class_names: Sequence[str],
    cache: FeatureCache,
    progress: Progress = no_progress,
    layers: FullyConnected | None = None,
    workers: CacheWorkers | None = None,
    report: Callable[[Detector, HeldOut], None] = lambda detector, held_out: None,
) -> Detector:
    """Train a detector on annotated images and their tiles, with features from ``cache``; missing ones are stored.

    layers: fine-tuned before, to train SVMs on; no others are trained then.
    workers: they compute features and score images, by default this process; the result is the same.
    report: receives the detector and the detections of its cross-validation.
    Killed and called again, training resumes from its last checkpoint to a bit-identical result. Raises ValueError,
    before any work, for a class without an object to train on, for more objects than samples that may be kept, for
    initial layers that do not fit, and for a layer that end-to-end training cannot start at.
    """
    config = with_tile_size(config.for_images(len(annotations)), annotations)
    views = training_views(config, annotations)
    images = TrainingSet(views, len(class_names), cache, config.svm.max_negative_iou, config.svm.difficult)
    check_training(config, images, class_names, layers)
    trained = TrainedLayers(layers)
    if config.end_to_end.enabled and layers is None:
        trained, images, workers = _train_end_to_end(config, images, progress, workers)
    readable = cache_features(config, images, trained, progress, workers)
    if len(readable) < len(images) and not trained.replace_svms(config):
        check_training(config, readable, class_names, layers)
    images = readable
    checkpoints = checkpoint_files(config, images, layers)
    if config.fine_tuning.enabled and not config.end_to_end.enabled and trained.layers is None:
        trained = _fine_tune(config, images, checkpoints.layers, progress)
    proposal_filter = None
    if config.proposal_filter.enabled:
        proposal_filter = train_proposal_filter(images, config.proposal_filter, progress)
        images = images.filtered(proposal_filter, config.detection.max_boxes)
    for_svms, for_regressors = scale_features(config, images, trained)
    background = Background.of(images.cache.encoder, class_names) if config.svm.background else None
    fitted = trained.softmax or train_svms(for_svms, config.svm, checkpoints.svms, progress, workers, background)
    scorer = fitted if isinstance(fitted, Softmax) else fitted.svms
    regressors = trained.regressors
    if config.regression.enabled and not regressors:
        regressors = [train_regressors(for_regressors, config.regression, config.svm.seed, progress, workers)]
    heads = Heads(scorer, regressors, trained.layers, config.regression.features, proposal_filter=proposal_filter)
    detector = Detector(cache.propose, images.cache.encoder, heads, tuple(class_names), config)
    if config.calibration.enabled:
        held_out = _cross_validated(detector, for_svms, trained, fitted, progress)
        if background is not None:
            held_out = replace(held_out, background=detect_background(detector, background))
        detector = with_held_out(detector, held_out)
        if held_out.annotations:
            report(detector, held_out)
    checkpoints.svms.unlink(missing_ok=True)
    return detector


@dataclass(frozen=True)
class TrainedLayers:
    """Parts that are trained before the SVMs.

    layers: fc layers between pooled features and scores.
    softmax, regressors: used instead of SVMs and of ridge regression.
    held_out: ids of images that the layers were not trained on, for the calibration.
    """

    layers: FullyConnected | None = None
    softmax: Softmax | None = None
    regressors: Sequence[BoxRegressors] = ()
    held_out: set[str] | None = None

    def replace_svms(self, config: Config) -> bool:
        """Return whether neither SVMs nor regressors are left to train."""
        return self.softmax is not None and (bool(self.regressors) or not config.regression.enabled)


def check_training(
    config: Config, images: TrainingSet, class_names: Sequence[str], layers: FullyConnected | None = None
) -> None:
    """Raise the ValueErrors that `train` raises before any work."""
    config = config.for_images(len(images))
    counts = images.object_counts()
    if not counts.all():
        empty = ", ".join(name for name, count in zip(class_names, counts, strict=True) if not count)
        raise ValueError(f"no object to train on in {len(images)} images: {empty}")
    n_features = images.n_features if layers is None else layers.n_features
    if config.fine_tuning.enabled and layers is None:
        from detector.training.end_to_end.fc_layers import initial_layers

        if config.end_to_end.enabled:
            from detector.training.end_to_end.training import load_trainable

            load_trainable(config.features, config.end_to_end.first_layer, images)
        validation_split(images, config.fine_tuning)
        initial_layers(config.fine_tuning, images.cache.encoder)
        if config.fine_tuning.head == "softmax":
            return
        if config.fine_tuning.layer != "pooled":
            n_features = config.fine_tuning.width
    n_objects = int(counts.sum()) * (2 if config.svm.flips else 1)
    n_first = n_objects + min(len(images), START_IMAGES) * START_SAMPLES
    if n_first > (capacity := sample_capacity(config.svm, n_features)):
        limit = f"svm.max_samples is {capacity}" if config.svm.max_samples else f"2.5 GB hold {capacity} samples"
        raise ValueError(f"{limit}, but these objects need at least {n_first}")


def _train_end_to_end(
    config: Config, images: TrainingSet, progress: Progress, workers: CacheWorkers | None
) -> tuple[TrainedLayers, TrainingSet, CacheWorkers | None]:
    """Train the backbone; return the layers, and the images and workers with the trained backbone."""
    from detector.training.end_to_end.training import train_end_to_end

    # as in the end-to-end training: among all images, also unreadable ones
    held_out = held_out_ids(images, config) if config.calibration.enabled else None
    result = train_end_to_end(config, images, progress)
    weights = {**images.cache.encoder.backbone.tensors, **result.backbone}
    cache = replace(images.cache, encoder=build_encoder(config.features, weights=weights))
    trained = _trained_layers(config, result.layers, cache.encoder, held_out)
    if config.regression.fit == "end_to_end" and config.regression.enabled:
        trained = replace(trained, regressors=result.regressors)
    workers = workers and replace(workers, build=_OpenTrainedCache(workers.build, config.features, weights))
    return trained, replace(images, cache=cache), workers


@dataclass(frozen=True)
class _OpenTrainedCache:
    """Opens the cache of a worker, with the trained ``weights`` of the backbone."""

    build: Callable[[], FeatureCache]
    config: FeatureConfig
    weights: Arrays

    def __call__(self) -> FeatureCache:
        return replace(self.build(), encoder=build_encoder(self.config, weights=self.weights))


def cache_features(
    config: Config, images: TrainingSet, trained: TrainedLayers, progress: Progress, workers: CacheWorkers | None = None
) -> TrainingSet:
    """Fill the cache with all features that training needs; return the images without those that cannot be read."""
    needed = images.annotations
    if trained.replace_svms(config):
        ids = trained.held_out or set()
        if config.proposal_filter.enabled:
            rows = proposal_filter_images(len(images), config.proposal_filter)
            ids = ids | {images.annotations[row].image_id for row in rows}
        needed = [each for each in images.annotations if each.image_id in ids]
    if not needed:
        return images
    readable = fill_cache(images.cache, needed, progress, workers=workers)
    if config.caches_mirrored_maps:
        readable = fill_cache(images.cache, readable, progress, mirrored=True, workers=workers)
    lost = {each.image_id for each in needed} - {each.image_id for each in readable}
    return replace(images, annotations=[each for each in images.annotations if each.image_id not in lost])


@dataclass(frozen=True)
class CheckpointFiles:
    """Checkpoints of the fc layers, which all heads on them share, and of the SVMs, which are deleted at the end."""

    layers: Path
    svms: Path


def checkpoint_files(config: Config, images: TrainingSet, layers: FullyConnected | None = None) -> CheckpointFiles:
    """Return the checkpoint files of a training; their names change with everything that changes the result."""
    data = data_digest(images.annotations, images.cache)
    shared = {"maps": images.cache.maps_directory.name, "files": config.files()}
    for_layers = shared | {
        "features": config.features.model_dump(mode="json", exclude=NOT_FINGERPRINTED),
        "fine_tuning": config.fine_tuning.model_dump(mode="json", exclude={"layer", "head"}),
        "difficult": config.svm.difficult,
    }
    left_out: Any = {"calibration": True, "features": NOT_FINGERPRINTED}
    for_svms: dict[str, Any] = shared | config.model_dump(mode="json", exclude=left_out)
    if layers is not None:
        for_svms["layers"] = layers.digest
    return CheckpointFiles(
        state_file("fine-tuning", for_layers, data, images.cache),
        state_file("training", for_svms, data, images.cache),
    )


def _fine_tune(config: Config, images: TrainingSet, checkpoint: Path, progress: Progress) -> TrainedLayers:
    from detector.training.end_to_end.fc_layers import fine_tune_layers

    held_out = held_out_ids(images, config) if config.calibration.enabled else None
    layers = fine_tune_layers(images, config.fine_tuning, checkpoint, progress)
    return _trained_layers(config, layers, images.cache.encoder, held_out)


def _trained_layers(
    config: Config, layers: FineTunedLayers, encoder: Encoder, held_out: set[str] | None
) -> TrainedLayers:
    """Return the layers up to that of the recipe, computed like the backbone, and the softmax if it scores boxes."""
    backbone, tuning = encoder.backbone, config.fine_tuning
    computed = None
    if tuning.layer != "pooled":
        computed = layers.up_to(tuning.layer, backbone.precision, str(backbone.device), backbone.runtime)
    softmax = layers.fc8 if tuning.head == "softmax" else None
    return TrainedLayers(computed, softmax, held_out=held_out)


def scale_features(config: Config, images: TrainingSet, trained: TrainedLayers) -> tuple[TrainingSet, TrainingSet]:
    """Return the images with the features of the scorer, and with those of the regressors.

    Features to train on are scaled: those of the layers for SVMs, those or pooled ones for regressors.
    """

    def scale(images: TrainingSet) -> TrainingSet:
        return scaled(images, config.svm.mean_norm, config.svm.center, config.svm.seed)

    layered = replace(images, layers=trained.layers)
    for_svms = layered if trained.softmax else scale(layered)
    if not config.regression.enabled or trained.regressors:
        return for_svms, images
    if trained.layers is None or config.regression.features == "layer":
        return for_svms, scale(layered) if trained.softmax else for_svms
    return for_svms, scale(images)


def _cross_validated(
    detector: Detector, images: TrainingSet, trained: TrainedLayers, fitted: Softmax | TrainedSVMs, progress: Progress
) -> HeldOut:
    """Detect in images that the layers and SVMs of a detector were not trained on."""
    if trained.held_out is None:
        parts = held_out_parts(images, detector.config.calibration)
    else:
        parts = [images.rows_of(trained.held_out)]

    def scorer_without(part: Rows) -> Scorer:
        return fitted if isinstance(fitted, Softmax) else fitted.without(part)

    return cross_validate(detector, images, parts, scorer_without, progress)


def with_held_out(detector: Detector, held_out: HeldOut) -> Detector:
    """Return the detector with calibration and numbers from held-out images; itself, with a warning, without any."""
    if not held_out.annotations:
        _log.warning("no probabilities and no accuracy: each image has the only objects of a class")
        return detector
    heads = replace(detector.heads, calibration=held_out.calibration(detector.class_names))
    record = {**detector.record, CROSS_VALIDATION: held_out.measure(detector.class_names).to_json()}
    return replace(detector, heads=heads, record=record)
