"""Detector that is trained again after each labeled image, from its solution before.

The samples of all labeled images stay in one buffer with the dual variables of their SVMs. A round adds the samples of
the images that changed, solves, mines these images and some others for hard negatives, and solves again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import monotonic

import numpy as np

from detector.config.detector import Config
from detector.datasets.dataset import Annotation
from detector.features.cache import FeatureCache
from detector.heads.heads import Heads
from detector.heads.linear import BoxRegressors, LinearSVMs
from detector.pipeline import Detector
from detector.training.box_regression import train_regressors
from detector.training.proposal_filter import train_proposal_filter
from detector.training.svm.dual_solver import solve_dual
from detector.training.svm.mining import MiningState, add_hard_negatives, refit, sample_image
from detector.training.svm.sample_buffer import SampleBuffer
from detector.training.svm.training import TrainedSVMs
from detector.training.training_set import TrainingSet, scaled

MAX_SAMPLES = 12_000
"""Samples in the buffer; at 9,600 features, 230 MB."""
ROUND_SECONDS = 1.0
"""Time after which a round mines and solves no more."""
_MINING_SECONDS = 0.5
_START_SAMPLES = 40
_GROWTH = 1.2
_MAX_RESCALED = 8
"""Number of images up to which features are scaled again, and all samples are taken again, when it has doubled."""
_TOLERANCE = 1e-2
"""Relative duality gap of the SVMs of a round."""


@dataclass
class Learner:
    """SVMs of the images labeled so far. ``config`` is the recipe of ``cache``."""

    cache: FeatureCache
    config: Config
    class_names: tuple[str, ...] = ()
    _images: TrainingSet | None = field(default=None, repr=False)
    _state: MiningState | None = field(default=None, repr=False)
    _turn: int = 0
    _regressors: BoxRegressors | None = None
    _regressed: tuple[str, ...] = ()
    _n_regressed: int = 0
    _n_scaled: int = 0
    _filtered_for: tuple[str, ...] = ()

    def learn(self, annotations: Sequence[Annotation], class_names: Sequence[str]) -> TrainedSVMs | None:
        """Return the SVMs of these images, of K classes; None without objects, or without an object of some class.

        Images that are equal to those of the last call keep their samples. Raises ValueError for an image that cannot
        be read.
        """
        counts = np.bincount(
            np.concatenate([np.zeros(0, np.int64), *(each.labels for each in annotations)]), minlength=len(class_names)
        )
        if not len(class_names) or not counts.all():
            return None
        start = monotonic()
        self.class_names = tuple(class_names)
        images, state, changed = self._synchronized(annotations)
        for index in changed:
            self._add_start(images, state.buffer, index)
        if state.svms is None:
            refit(state, self.config.svm, solve_dual, tolerance=_TOLERANCE)
        while True:
            self._mine(images, state, changed)
            found = state.added
            refit(state, self.config.svm, solve_dual, tolerance=_TOLERANCE)
            if not found or monotonic() - start > ROUND_SECONDS:
                break
        self._images, self._state = images, state
        assert state.svms is not None
        svms = LinearSVMs(*images.unscaled(state.svms.weights, state.svms.biases))
        return TrainedSVMs(svms, images, self.config.svm, state.buffer)

    def detector(self, trained: TrainedSVMs) -> Detector:
        """Return the detector of the SVMs of `learn`, with box regressors.

        Regressors are fitted again when the number of images has grown by a fifth, or the classes have changed.
        """
        n_images = len(trained.images.annotations)
        if self._regressors is None or self._regressed != self.class_names or n_images >= _GROWTH * self._n_regressed:
            config = self.config.regression
            self._regressors = train_regressors(trained.images, config, self.config.svm.seed)
            self._regressed, self._n_regressed = self.class_names, n_images
        heads = Heads(trained.svms, [self._regressors], proposal_filter=trained.images.proposal_filter)
        record = {"trained_on": "a project of spp teach", "images": n_images}
        return Detector(self.cache.propose, self.cache.encoder, heads, self.class_names, self.config, record)

    def _synchronized(self, annotations: Sequence[Annotation]) -> tuple[TrainingSet, MiningState, list[int]]:
        """Return images and samples of these annotations, and the rows of those that have no samples yet."""
        known = {} if self._images is None else {_key(each): row for row, each in enumerate(self._images.annotations)}
        kept = [known.get(_key(each)) for each in annotations]
        changed = [row for row, before in enumerate(kept) if before is None]
        outgrown = 2 * self._n_scaled <= len(annotations) <= _MAX_RESCALED
        if self._images is None or self._state is None or len(changed) == len(annotations) or outgrown:
            self._n_scaled = len(annotations)
            images = TrainingSet(annotations, len(self.class_names), self.cache, self.config.svm.max_negative_iou)
            images = self._filtered(images)
            images = scaled(images, self.config.svm.mean_norm, self.config.svm.center, self.config.svm.seed)
            return images, MiningState(self._buffer(images)), list(range(len(annotations)))
        images = replace(self._images, annotations=annotations, n_classes=len(self.class_names))
        if self._filtered_for != self.class_names:
            images = self._filtered(images)
        # with SVMs of all classes, hard negatives are found before the next solution
        same = self._state.svms is not None and self._state.svms.n_classes == images.n_classes
        state = MiningState(self._buffer(images), svms=self._state.svms if same else None)
        old = self._state.buffer
        n_shared = min(old.targets.shape[1], images.n_classes)
        for row, before in enumerate(kept):
            if before is None:
                continue
            rows = np.flatnonzero(old.keys[:, 0] == before)
            # images labeled before a class was new have no object of it
            targets = np.full((len(rows), images.n_classes), -1, np.int8)
            targets[:, :n_shared] = old.targets[rows, :n_shared]
            start = state.buffer.size
            state.buffer.add(old.features[rows], targets, row, old.keys[rows, 1])
            state.buffer.duals[start:, :n_shared] = old.duals[rows, :n_shared]
        return images, state, changed

    def _filtered(self, images: TrainingSet) -> TrainingSet:
        """Return the images with a proposal filter that is trained on them; those known keep their proposals."""
        self._filtered_for = self.class_names
        if not self.config.proposal_filter.enabled:
            return images
        proposal_filter = train_proposal_filter(images, self.config.proposal_filter)
        return replace(images, proposal_filter=proposal_filter, max_boxes=self.config.detection.max_boxes)

    def _buffer(self, images: TrainingSet) -> SampleBuffer:
        return SampleBuffer(MAX_SAMPLES, images.n_features, images.n_classes)

    def _add_start(self, images: TrainingSet, buffer: SampleBuffer, index: int) -> None:
        """Add the objects of an image and random negatives."""
        samples = images[index]
        positive = (samples.targets > 0).any(1)
        negatives = np.flatnonzero((samples.targets < 0).any(1) & ~positive)
        # of many images at once, as after a restart, fewer: half of the buffer is for objects and hard negatives
        count = min(_START_SAMPLES, buffer.capacity // (2 * len(images)), len(negatives))
        drawn = np.random.default_rng(index).choice(negatives, count, replace=False)
        rows = np.concatenate([np.flatnonzero(positive), np.sort(drawn)])[: buffer.free]
        buffer.add(samples.features(rows), samples.targets[rows], index, rows)

    def _mine(self, images: TrainingSet, state: MiningState, changed: Sequence[int]) -> None:
        """Add hard negatives of the changed images and, as time allows, of the others in turn."""
        start = monotonic()
        for index in changed:
            self._mine_image(images, state, index)
        for _ in range(len(images) - len(changed)):
            if monotonic() - start > _MINING_SECONDS:
                break
            self._turn = (self._turn + 1) % len(images)
            if self._turn not in changed:
                self._mine_image(images, state, self._turn)

    def _mine_image(self, images: TrainingSet, state: MiningState, index: int) -> None:
        if state.buffer.free >= self.config.svm.max_negatives_per_image:
            add_hard_negatives(images, index, state, lambda *rest: sample_image(images, self.config.svm, *rest))


def _key(annotation: Annotation) -> tuple[str, bytes]:
    return annotation.image_id, annotation.to_bytes()
