"""From a data set to a detector, stage by stage; each takes what the one before it gave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detector.config.detector import Config
from detector.datasets.dataset import Annotation
from detector.features.cache import FeatureCache, Where, fill_cache
from detector.heads.fully_connected import FullyConnected, Softmax
from detector.heads.heads import Heads, Scorer
from detector.heads.linear import BoxRegressors
from detector.pipeline import Detector
from detector.runtime.progress import Progress, without_progress
from detector.training.box_regression import train_regressors
from detector.training.calibration import calibrate, held_out_parts, shown_to_none
from detector.training.checkpoints import UNTOLD, data_digest, state_file
from detector.training.end_to_end.fc_layers import initial_layers, tune_layers
from detector.training.end_to_end.layers import read_joint_layers
from detector.training.proposal_filter import proposal_filter_images, train_proposal_filter
from detector.training.sampling import validation_split
from detector.training.svm.mining import MiningSettings
from detector.training.svm.training import sample_capacity, train_svms
from detector.training.training_set import TrainingSet, scaled


def train(
    config: Config,
    annotations: Sequence[Annotation],
    class_names: Sequence[str],
    cache: FeatureCache,
    progress: Progress = without_progress,
    layers: FullyConnected | None = None,
    where: Where | None = None,
) -> Detector:
    """Train a detector on annotated images, from features in ``cache``; what is missing there is computed.

    ``layers`` that were fine-tuned before take the place of those of the recipe, with SVMs on them. ``where`` is who
    computes features and scores images for the SVMs, if not this process; the result is the same. Killed and called
    again, training goes on from its last fit to the same result. Raises ValueError, before any work, for a class
    without an object to learn from, for more objects than the samples that may be kept, and for layers to begin with
    that do not fit.
    """
    config = config.for_images(len(annotations))
    images = TrainingSet(annotations, len(class_names), cache, config.svm.max_negative_iou, config.svm.difficult)
    stages = _Stages(config, tuple(class_names), layers, progress, where)
    stages.check(images)
    given, images = images, stages.cache_features(images)
    checkpoints = stages.checkpoints(images)
    tuned = stages.tune_layers(images, checkpoints.layers)
    for_svms, for_regressors = stages.scale(images, tuned)
    scorer = tuned.softmax or train_svms(for_svms, config.svm, checkpoints.svms, progress, where)
    regressors = tuned.regressors
    if config.regression.enabled and regressors is None:
        regressors = train_regressors(for_regressors, config.regression, config.svm.seed, progress, where)
    proposal_filter = (
        train_proposal_filter(images, config.proposal_filter, progress) if config.proposal_filter.enabled else None
    )
    heads = Heads(scorer, regressors, tuned.layers, config.regression.features, proposal_filter=proposal_filter)
    detector = Detector.by_recipe(config, cache.propose, cache.encoder, heads, stages.class_names)
    if config.calibration.enabled:
        # a joint training held images out before any was read
        held_out = shown_to_none(given if stages.joint else images, config.fine_tuning) if stages.tunes else None
        detector = stages.calibrate(detector, for_svms, held_out, tuned, checkpoints)
    checkpoints.svms.unlink(missing_ok=True)
    return detector


def check_training(config: Config, images: TrainingSet, class_names: Sequence[str]) -> None:
    """Raise the ValueErrors with which `train` would end before any work."""
    _Stages(config.for_images(len(images)), tuple(class_names), None, without_progress).check(images)


@dataclass(frozen=True)
class _Checkpoints:
    """Files of states: of the fine-tuned layers, one for all heads that use them, and of the SVMs, until the end.

    calibration: the file of the SVMs that learn without a part of the images, by its number.
    """

    layers: Path
    svms: Path
    calibration: Callable[[int], Path]


@dataclass(frozen=True)
class _Tuned:
    """The layers between pooled features and scores, if there are some, and what of theirs is used besides."""

    layers: FullyConnected | None
    softmax: Softmax | None = None
    regressors: BoxRegressors | None = None


@dataclass(frozen=True)
class _Stages:
    """The stages of `train` that the recipe decides on; ``layers`` are those of an earlier training."""

    config: Config
    class_names: tuple[str, ...]
    layers: FullyConnected | None
    progress: Progress
    where: Where | None = None

    @property
    def tunes(self) -> bool:
        return self.config.fine_tuning.enabled and self.layers is None

    @property
    def joint(self) -> bool:
        """Whether layers come from the file of a joint training, and need not be tuned."""
        return self.tunes and self.config.end_to_end.enabled

    def check(self, images: TrainingSet) -> None:
        """Raise ValueError for what would end a training later; see `train`."""
        config, encoder = self.config, images.cache.encoder
        counts = images.object_counts()
        if not counts.all():
            empty = ", ".join(name for name, count in zip(self.class_names, counts, strict=True) if not count)
            raise ValueError(f"no object to learn from in {len(images)} images: {empty}")
        n_features = encoder.n_features if self.layers is None else self.layers.n_features
        if self.joint:
            read_joint_layers(config.features.tuned)
        if self.tunes:
            validation_split(images, config.fine_tuning)
            initial_layers(config.fine_tuning, encoder)
            if config.fine_tuning.head == "softmax":
                return
            n_features = config.fine_tuning.width + n_features * config.fine_tuning.beside_pooled
        n_first = (
            int(counts.sum()) * (2 if config.svm.flips else 1)
            + min(len(images), MiningSettings.start_images) * MiningSettings.start_samples
        )
        if n_first > (capacity := sample_capacity(config.svm, n_features)):
            named = "svm.max_samples is" if config.svm.max_samples else "samples that take 2.5 GB are"
            raise ValueError(f"{named} {capacity}, but these objects need at least {n_first}")

    @property
    def learned_before(self) -> bool:
        """Whether all that scores and moves boxes comes from a joint training."""
        config = self.config
        moves = config.regression.fit == "joint" or not config.regression.enabled
        return self.joint and config.fine_tuning.head == "softmax" and moves

    def cache_features(self, images: TrainingSet) -> TrainingSet:
        """The images that could be read, with everything in the cache that training asks for."""
        if self.learned_before:
            return self._cache_some(images)
        readable = fill_cache(images.cache, images.annotations, self.progress, where=self.where)
        if self.config.learns_from_mirrored_maps:
            readable = fill_cache(images.cache, readable, self.progress, mirrored=True, where=self.where)
        cached = replace(images, annotations=readable)
        if len(cached) < len(images):
            self.check(cached)
        return cached

    def _cache_some(self, images: TrainingSet) -> TrainingSet:
        """`cache_features` where features are asked for by the proposal_filter and the calibration alone."""
        config = self.config
        rows = (
            set(proposal_filter_images(len(images), config.proposal_filter))
            if config.proposal_filter.enabled
            else set()
        )
        if config.calibration.enabled:
            rows |= set(images.rows_of(shown_to_none(images, config.fine_tuning)).tolist())
        if not rows:
            return images
        asked = [images.annotations[row] for row in sorted(rows)]
        readable = {each.image_id for each in fill_cache(images.cache, asked, self.progress, where=self.where)}
        lost = {each.image_id for each in asked} - readable
        return replace(images, annotations=[each for each in images.annotations if each.image_id not in lost])

    def checkpoints(self, images: TrainingSet) -> _Checkpoints:
        """Files whose names tell all that changes the result."""
        data = data_digest(images.annotations, images.cache)
        files = self.config.files()
        of_layers = {
            "features": self.config.features.model_dump(mode="json", exclude=UNTOLD),
            "fine_tuning": self.config.fine_tuning.model_dump(mode="json", exclude={"layer", "beside_pooled", "head"}),
            "difficult": self.config.svm.difficult,
            "files": files,
        }
        left_out: Any = {"calibration": True, "features": UNTOLD}
        of_svms: dict[str, Any] = self.config.model_dump(mode="json", exclude=left_out) | {"files": files}
        if self.layers is not None:
            of_svms["layers"] = self.layers.digest
        held_out = self.config.calibration.model_dump()
        return _Checkpoints(
            state_file("fine-tuning", of_layers, data, images.cache),
            state_file("training", of_svms, data, images.cache),
            lambda part: state_file("calibration", of_svms | {"held_out": held_out, "part": part}, data, images.cache),
        )

    def tune_layers(self, images: TrainingSet, checkpoint: Path) -> _Tuned:
        """The layers given, or those fine-tuned where the recipe says so."""
        if not self.tunes:
            return _Tuned(self.layers)
        config, backbone = self.config.fine_tuning, images.cache.encoder.backbone
        joint = read_joint_layers(self.config.features.tuned) if self.joint else None
        tuned = joint.tuned if joint else tune_layers(images, config, checkpoint, self.progress)
        computed = backbone.precision, str(backbone.device), config.beside_pooled, backbone.runtime
        layers = tuned.up_to(config.layer, *computed)
        learned = self.config.regression.fit == "joint" and self.config.regression.enabled
        moves = joint.regressors if joint and learned else None
        return _Tuned(layers, tuned.fc8 if config.head == "softmax" else None, moves)

    def scale(self, images: TrainingSet, tuned: _Tuned) -> tuple[TrainingSet, TrainingSet]:
        """The images with the features of the SVMs, and with those of the regressors, both scaled where they are used.

        Regressors learn from pooled features, or from the SVMs' own.
        """

        def scale(images: TrainingSet) -> TrainingSet:
            return scaled(images, self.config.svm.mean_norm, self.config.svm.center, self.config.svm.seed)

        layered = replace(images, layers=tuned.layers)
        if tuned.softmax and tuned.regressors:
            return layered, layered
        if tuned.layers is None or self.config.regression.features == "layer":
            layered = scale(layered)
            return layered, layered
        pooled = scale(images) if self.config.regression.enabled else images
        return layered if tuned.softmax else scale(layered), pooled

    def calibrate(
        self,
        detector: Detector,
        for_svms: TrainingSet,
        held_out: set[str] | None,
        tuned: _Tuned,
        checkpoints: _Checkpoints,
    ) -> Detector:
        """The detector with the calibration of its scores.

        Fine-tuned layers know the images that they learned from: ``held_out`` are the ids of those they were not shown.
        """
        parts = held_out_parts(for_svms, self.config.calibration) if held_out is None else [for_svms.rows_of(held_out)]
        files = [checkpoints.calibration(part) for part in range(len(parts))]

        def train(annotations: Sequence[Annotation], part: int) -> Scorer:
            learners = replace(for_svms, annotations=annotations)
            return tuned.softmax or train_svms(learners, self.config.svm, files[part], self.progress, self.where)

        calibration = calibrate(detector, for_svms, parts, train, self.progress)
        for file in files:
            file.unlink(missing_ok=True)
        return replace(detector, calibration=calibration)
