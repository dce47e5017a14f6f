"""Training set: boxes, targets and scaled features of annotated images, for mining and regression."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, flip, iou
from detector.datasets.dataset import Annotation
from detector.features.cache import FeatureCache
from detector.features.encoder import Encoder, FeatureMaps, Features, Regions
from detector.heads.fully_connected import FullyConnected
from detector.heads.linear import LinearSVMs
from detector.heads.proposal_filter import ProposalFilter
from detector.tiles import Window
from detector.training.background import Background


@dataclass(frozen=True)
class TrainingSet:
    """Annotated images with cached features.

    Features are pooled values or, with ``layers``, the output of these. They are shifted by ``-mean`` and multiplied by
    ``scale``, so that a C found at one mean norm carries over to other networks. `unscaled` undoes both in learned
    weights. With ``flips``, the mirrored images follow the images, and the images of ``background`` follow these.

    max_negative_iou: boxes that overlap an object less than this are its class's negatives.
    difficult: train on difficult objects, too.
    mean, scale: ``(D,)`` float32 or a number.
    proposal_filter, max_boxes: keeps so many proposals per image, as in detection; None: all proposals.
    """

    annotations: Sequence[Annotation]
    n_classes: int
    cache: FeatureCache
    max_negative_iou: float = 0.3
    difficult: bool = True
    layers: FullyConnected | None = None
    mean: Features | np.float32 = field(default_factory=lambda: np.float32(0))
    scale: Features | np.float32 = field(default_factory=lambda: np.float32(1))
    flips: bool = False
    background: Background | None = None
    proposal_filter: ProposalFilter | None = None
    max_boxes: int | None = None
    _kept: dict[tuple[str, Window | None], NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def n_features(self) -> int:
        """Length D of a feature row."""
        return self.cache.encoder.n_features if self.layers is None else self.layers.n_features

    def __len__(self) -> int:
        mined = () if self.background is None else self.background.mined
        return self.n_images + len(mined)

    @property
    def n_images(self) -> int:
        """Number of images, mirrored ones included, without background."""
        return len(self.annotations) * (2 if self.flips else 1)

    def __getitem__(self, index: int) -> ImageSamples:
        """Return the samples of an image: its objects first, then its proposals that cover distinct cells."""
        if index >= self.n_images:
            return self._background_samples(index - self.n_images)
        mirrored = index >= len(self.annotations)
        index %= len(self.annotations)
        annotation = self.annotations[index]
        boxes, labels = self.boxes(index)
        overlaps = class_overlaps(iou(boxes, annotation.boxes), annotation.labels, self.n_classes)
        targets = self.targets(overlaps, labels)
        computed = self.cache.mirrored_maps if mirrored else self.cache.maps
        maps = computed(annotation.image_id, annotation.path, annotation.window)
        regions = self.cache.encoder.regions(maps, flip(boxes, maps.image_size[1]) if mirrored else boxes)
        # objects always stay; negatives that cover the same cells are one sample
        n_objects = len(labels)
        kept = unique_rows(regions)
        kept = np.concatenate([np.arange(n_objects), kept[kept >= n_objects]])
        return ImageSamples(targets[kept], regions[kept], maps, self.cache.encoder, self.scale_features)

    def _background_samples(self, index: int) -> ImageSamples:
        assert self.background is not None
        image = self.background.mined[index]
        maps = image.maps
        regions = self.cache.encoder.regions(maps, image.boxes)
        targets = np.where(image.background_of(self.background.class_names), -1, 0).astype(np.int8)
        kept = unique_rows(regions)
        return ImageSamples(targets[kept], regions[kept], maps, self.cache.encoder, self.scale_features)

    def targets(self, overlaps: NDArray[np.float32], object_labels: NDArray[np.int64]) -> NDArray[np.int8]:
        """Return the `mining_targets` ``(R, K)`` of boxes; other rules override this."""
        return mining_targets(overlaps, object_labels, self.max_negative_iou)

    def without_cache(self) -> TrainingSet:
        """Return a copy to send to workers, which open caches of their own."""
        missing: Any = None
        return replace(self, cache=missing, _kept={})

    def without_tiles(self) -> TrainingSet:
        """Return a copy with the whole images alone."""
        if all(each.window is None for each in self.annotations):
            return self
        return replace(self, annotations=[each for each in self.annotations if each.window is None], _kept={})

    def filtered(self, proposal_filter: ProposalFilter, max_boxes: int | None) -> TrainingSet:
        """Return a copy with the ``max_boxes`` best proposals of each image."""
        return replace(self, proposal_filter=proposal_filter, max_boxes=max_boxes, _kept={})

    def boxes(self, index: int) -> tuple[Boxes, NDArray[np.int64]]:
        """Return the boxes ``(R, 4)`` of an image, its positive objects first, and the labels of these objects."""
        annotation = self.annotations[index]
        positive = ~self._left_out(annotation)
        return np.concatenate([annotation.boxes[positive], self._proposals(annotation)]), annotation.labels[positive]

    def _proposals(self, annotation: Annotation) -> Boxes:
        proposals = self.cache.proposals(annotation.image_id, annotation.path, annotation.window)
        if self.proposal_filter is None or self.max_boxes is None or len(proposals) <= self.max_boxes:
            return proposals
        key = annotation.image_id, annotation.window
        if key not in self._kept:
            maps = self.cache.maps(annotation.image_id, annotation.path, annotation.window)
            kept = self.proposal_filter.choose(self.cache.encoder, maps, proposals, self.max_boxes)
            self._kept[key] = kept
        return proposals[self._kept[key]]

    def labeled_boxes(self, index: int) -> tuple[Boxes, NDArray[np.float32]]:
        """Return `boxes` of an image ``(R, 4)`` and their IoU ``(R, N)`` with all N objects.

        Boxes whose largest overlap is with an ignored object or, without ``difficult``, with a difficult one are left
        out.
        """
        annotation = self.annotations[index]
        boxes, _ = self.boxes(index)
        overlaps = iou(boxes, annotation.boxes)
        kept = without_ignored(overlaps, self._left_out(annotation))
        return boxes[kept], overlaps[kept]

    def has_objects(self, index: int) -> bool:
        """Return whether an image has an object to train on."""
        return not self._left_out(self.annotations[index]).all()

    def _left_out(self, annotation: Annotation) -> NDArray[np.bool_]:
        """Return the objects ``(N,)`` of an image that are not trained on."""
        left_out = np.zeros(len(annotation.labels), np.bool_) if self.difficult else annotation.difficult
        return left_out if annotation.ignored is None else left_out | annotation.ignored

    def rows_of(self, image_ids: Container[str]) -> NDArray[np.int64]:
        """Return the ascending rows of the images with the given ids."""
        return np.flatnonzero([each.image_id in image_ids for each in self.annotations])

    def object_counts(self, rows: Iterable[int] | None = None) -> NDArray[np.int64]:
        """Return the number ``(K,)`` of objects of each class to train on, in all images or those at ``rows``."""
        counts = np.zeros(self.n_classes, np.int64)
        for each in self.annotations if rows is None else (self.annotations[row] for row in rows):
            counts += np.bincount(each.labels[~self._left_out(each)], minlength=self.n_classes)
        return counts

    def features(self, index: int, boxes: Boxes) -> Features:
        """Return the features ``(R, D)`` of ``(R, 4)`` boxes of an image."""
        annotation = self.annotations[index]
        maps = self.cache.maps(annotation.image_id, annotation.path, annotation.window)
        return self.cache.encoder.apply(self.scale_features, maps, self.cache.encoder.regions(maps, boxes))

    def scale_features(self, features: Features) -> Features:
        """Return the features ``(R, D)`` to train on; the float32 pooled ``features`` are overwritten."""
        if self.layers is not None:
            features = self.layers(features)
        features -= self.mean
        features *= self.scale
        return features

    def unscaled(self, weights: Features, biases: Features) -> tuple[Features, Features]:
        """Return weights ``(D, T)`` and biases ``(T,)`` with the same output for unscaled features."""
        weights = weights * np.broadcast_to(self.scale, len(weights))[:, None]
        return weights, biases - np.broadcast_to(self.mean, len(weights)) @ weights


@dataclass(frozen=True)
class ImageSamples:
    """Candidate samples of one image.

    targets: ``(R, K)`` int8: 1 for an object of the class, -1 for a possible negative, 0 to ignore.
    regions: ``(R, 5)``, see `Encoder.regions`.
    prepare: pooled features ``(n, D)``, which it may overwrite, to the features to train on.
    """

    targets: NDArray[np.int8]
    regions: Regions
    maps: FeatureMaps
    encoder: Encoder
    prepare: Callable[[Features], Features]

    def features(self, rows: NDArray[np.int64] | slice) -> Features:
        """Return the features ``(n, D)`` float32 of the samples at ``rows``."""
        return self.encoder.apply(self.prepare, self.maps, self.regions[rows])

    def scores(self, svms: LinearSVMs) -> Features:
        """Return the scores ``(R, K)`` float32 of all samples, pooled and scored a block at a time."""
        return self.encoder.apply(lambda pooled: svms.decision_function(self.prepare(pooled)), self.maps, self.regions)


def class_overlaps(
    overlaps: NDArray[np.float32], object_labels: NDArray[np.int64], n_classes: int
) -> NDArray[np.float32]:
    """Return the largest IoU ``(R, K)`` with the objects of each class, 0 for none, from that with all, ``(R, N)``."""
    best = np.zeros((len(overlaps), n_classes), np.float32)
    for k in np.unique(object_labels):
        best[:, k] = overlaps[:, object_labels == k].max(1)
    return best


def mining_targets(
    overlaps: NDArray[np.float32], object_labels: NDArray[np.int64], max_negative_iou: float = 0.3
) -> NDArray[np.int8]:
    """Return the targets ``(R, K)`` int8 of boxes; the first ``len(object_labels)`` boxes are the ground truth.

    ``overlaps`` ``(R, K)`` is the largest IoU of each box with the objects of each class.
    """
    targets = np.where(overlaps < max_negative_iou, -1, 0).astype(np.int8)
    targets[np.arange(len(object_labels)), object_labels] = 1
    return targets


def unique_rows(regions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ascending indices of the first row of every distinct region."""
    return np.sort(np.unique(regions, axis=0, return_index=True)[1])


def without_ignored(overlaps: NDArray[np.float32], ignored: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the ascending rows of boxes whose largest IoU ``(R, N)`` is not with an ``ignored`` ``(N,)`` object."""
    if not ignored.any():
        return np.arange(len(overlaps))
    return np.flatnonzero(~ignored[overlaps.argmax(1)] | (overlaps.max(1) == 0))


def scaled(
    images: TrainingSet, mean_norm: float, center: bool, seed: int, max_images: int = 200, max_boxes: int = 200
) -> TrainingSet:
    """Return ``images`` with features scaled to a mean L2 norm and, with ``center``, to zero mean before.

    Both are measured on the same random boxes of random images (release: spp_feature_stats).
    """
    if center:
        drawn = _random_features(images, seed, max_images, max_boxes)
        means = [each.mean(0, dtype=np.float64) for each in drawn if len(each)]
        images = replace(images, mean=np.mean(means, axis=0).astype(np.float32))
    norms = [np.linalg.norm(each, axis=1) for each in _random_features(images, seed, max_images, max_boxes)]
    return replace(images, scale=np.float32(mean_norm / np.concatenate(norms).mean(dtype=np.float64)))


def _random_features(images: TrainingSet, seed: int, max_images: int, max_boxes: int) -> Iterator[Features]:
    rng = np.random.default_rng(seed)
    for index in rng.permutation(len(images))[:max_images]:
        samples = images[int(index)]
        yield samples.features(rng.permutation(len(samples.targets))[:max_boxes])
