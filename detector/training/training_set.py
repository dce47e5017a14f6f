"""An annotated data set as mining and regression see it: boxes, targets and scaled features of its images."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, flip, iou
from detector.datasets.dataset import Annotation
from detector.features.cache import FeatureCache
from detector.features.encoder import Encoder, FeatureMaps, Features, Regions
from detector.heads.fully_connected import FullyConnected
from detector.heads.linear import LinearSVMs
from detector.training.svm.mining import class_overlaps, mining_targets, unique_rows


@dataclass(frozen=True)
class ImageSamples:
    """The boxes of one image as mining sees them: `detector.training.svm.mining.RegionSamples`.

    regions: ``(R, 5)``, of `Encoder.regions`: where features come from.
    prepare: pooled features ``(n, D)``, which it may overwrite, to those that are learned from.
    """

    targets: NDArray[np.int8]
    regions: Regions
    maps: FeatureMaps
    encoder: Encoder
    prepare: Callable[[Features], Features]

    def features(self, rows: NDArray[np.int64] | slice) -> Features:
        """Features ``(n, D)`` float32 of some boxes."""
        return self.encoder.apply(self.prepare, self.maps, self.regions[rows])

    def scores(self, svms: LinearSVMs) -> Features:
        """Scores ``(R, K)`` float32 of all boxes, which are pooled and scored a block at a time."""
        return self.encoder.apply(lambda pooled: svms.decision_function(self.prepare(pooled)), self.maps, self.regions)


@dataclass(frozen=True)
class TrainingSet:
    """Annotated images with cached features, as mining and regression see them.

    Features are pooled values or, with ``layers``, what these make of them. They are shifted by ``-mean`` and
    multiplied by ``scale``, ``(D,)`` each, so that a C found at one mean norm carries over to other networks.
    `unscaled` takes both back out of what was learned. With ``flips`` there are also those of
    the mirror images, which come after the images.
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

    @property
    def n_features(self) -> int:
        """Length D of a feature row."""
        return self.cache.encoder.n_features if self.layers is None else self.layers.n_features

    def __len__(self) -> int:
        return len(self.annotations) * (2 if self.flips else 1)

    def __getitem__(self, index: int) -> ImageSamples:
        """An image's ground truth (first) and those of its proposals that read distinct cells."""
        mirrored = index >= len(self.annotations)
        index %= len(self.annotations)
        annotation = self.annotations[index]
        boxes, labels = self.boxes(index)
        overlaps = class_overlaps(iou(boxes, annotation.boxes), annotation.labels, self.n_classes)
        targets = self.targets(overlaps, labels)
        maps = (self.cache.mirrored_maps if mirrored else self.cache.maps)(annotation.image_id, annotation.path)
        regions = self.cache.encoder.regions(maps, flip(boxes, maps.image_size[1]) if mirrored else boxes)
        # ground truth stays whatever it shares its cells with; negatives that read the same cells are one sample
        n_objects = len(labels)
        kept = unique_rows(regions)
        kept = np.concatenate([np.arange(n_objects), kept[kept >= n_objects]])
        return ImageSamples(targets[kept], regions[kept], maps, self.cache.encoder, self.scale_features)

    def targets(self, overlaps: NDArray[np.float32], object_labels: NDArray[np.int64]) -> NDArray[np.int8]:
        """Which boxes ``(R, K)`` are learned from as what: `mining_targets`."""
        return mining_targets(overlaps, object_labels, self.max_negative_iou)

    def boxes(self, index: int) -> tuple[Boxes, NDArray[np.int64]]:
        """Boxes ``(R, 4)`` of an image, those of its positive objects first, and these objects' labels."""
        annotation = self.annotations[index]
        chosen = np.ones(len(annotation.labels), bool) if self.difficult else ~annotation.difficult
        proposals = self.cache.proposals(annotation.image_id, annotation.path)
        return np.concatenate([annotation.boxes[chosen], proposals]), annotation.labels[chosen]

    def labeled_boxes(self, index: int) -> tuple[Boxes, NDArray[np.float32]]:
        """`boxes` of an image ``(R, 4)`` and their IoU ``(R, N)`` with all N objects.

        Where difficult objects are not to be learned from, boxes that overlap one of them most are left out.
        """
        annotation = self.annotations[index]
        boxes, _ = self.boxes(index)
        overlaps = iou(boxes, annotation.boxes)
        if self.difficult:
            return boxes, overlaps
        kept = without_ignored(overlaps, annotation.difficult)
        return boxes[kept], overlaps[kept]

    def has_objects(self, index: int) -> bool:
        """Whether an image has an object to learn from."""
        annotation = self.annotations[index]
        return bool(len(annotation.labels) if self.difficult else (~annotation.difficult).any())

    def rows_of(self, image_ids: Container[str]) -> NDArray[np.int64]:
        """Ascending rows of the images of some ids."""
        return np.flatnonzero([each.image_id in image_ids for each in self.annotations])

    def object_counts(self, rows: Iterable[int] | None = None) -> NDArray[np.int64]:
        """How many objects ``(K,)`` of each class there are to learn from, in all images or some."""
        counts = np.zeros(self.n_classes, np.int64)
        for each in self.annotations if rows is None else (self.annotations[row] for row in rows):
            labels = each.labels if self.difficult else each.labels[~each.difficult]
            counts += np.bincount(labels, minlength=self.n_classes)
        return counts

    def features(self, index: int, boxes: Boxes) -> Features:
        """Features ``(R, D)`` of ``(R, 4)`` boxes of an image."""
        annotation = self.annotations[index]
        maps = self.cache.maps(annotation.image_id, annotation.path)
        return self.cache.encoder.apply(self.scale_features, maps, self.cache.encoder.regions(maps, boxes))

    def scale_features(self, features: Features) -> Features:
        """Those ``(R, D)`` that are learned from, of pooled ones, float32, which are overwritten."""
        if self.layers is not None:
            features = self.layers(features)
        features -= self.mean
        features *= self.scale
        return features

    def unscaled(self, weights: Features, biases: Features) -> tuple[Features, Features]:
        """Weights ``(D, T)`` and biases ``(T,)`` that say of plain features what these say of scaled ones."""
        weights = weights * np.broadcast_to(self.scale, len(weights))[:, None]
        return weights, biases - np.broadcast_to(self.mean, len(weights)) @ weights


def without_ignored(overlaps: NDArray[np.float32], ignored: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows of ``overlaps`` ``(R, N)`` of boxes that do not overlap an ``ignored`` ``(N,)`` object most, ascending."""
    if not ignored.any():
        return np.arange(len(overlaps))
    return np.flatnonzero(~ignored[overlaps.argmax(1)] | (overlaps.max(1) == 0))


def scaled(
    images: TrainingSet, mean_norm: float, center: bool, seed: int, max_images: int = 200, max_boxes: int = 200
) -> TrainingSet:
    """``images`` with features scaled to a mean L2 norm, if asked to after their mean is taken off.

    Both are measured on random boxes of random images, with the same draw (release: spp_feature_stats). Features
    that stand side by side get equal shares of the norm.
    """
    if center:
        drawn = _random_features(images, seed, max_images, max_boxes)
        means = [each.mean(0, dtype=np.float64) for each in drawn if len(each)]
        images = replace(images, mean=np.mean(means, axis=0).astype(np.float32))
    parts = [slice(0, images.n_features)] if images.layers is None else images.layers.parts
    norms: list[list[float]] = [[] for _ in parts]
    for features in _random_features(images, seed, max_images, max_boxes):
        for part, own in zip(parts, norms, strict=True):
            own += np.linalg.norm(features[:, part], axis=1).tolist()
    scale = np.empty(images.n_features, np.float32)
    for part, own in zip(parts, norms, strict=True):
        scale[part] = mean_norm / np.sqrt(len(parts)) / np.mean(own)
    return replace(images, scale=scale)


def _random_features(images: TrainingSet, seed: int, max_images: int, max_boxes: int) -> Iterator[Features]:
    rng = np.random.default_rng(seed)
    for index in rng.permutation(len(images))[:max_images]:
        samples = images[int(index)]
        yield samples.features(rng.permutation(len(samples.targets))[:max_boxes])
