"""An annotated data set as mining and regression see it: boxes, targets and scaled features of its images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, iou
from detector.datasets.annotation import Annotation
from detector.features.encoder import FeatureMaps
from detector.features.feature_cache import FeatureCache
from detector.heads.fully_connected import FullyConnected
from detector.training.mining import Candidates, class_overlaps, first_of_each, mining_targets

Features = NDArray[np.float32]


@dataclass(frozen=True)
class TrainingSet:
    """Annotated images with cached features, as mining and regression see them.

    Features are pooled values or, with ``layers``, what these make of them. They are shifted by ``-mean`` and
    multiplied by ``scale``, ``(D,)`` each, so that a C found at one mean norm carries over to other networks.
    `unscaled` takes both back out of what was learned.
    """

    annotations: Sequence[Annotation]
    n_classes: int
    cache: FeatureCache
    max_negative_iou: float = 0.3
    difficult: bool = True
    layers: FullyConnected | None = None
    mean: Features | np.float32 = field(default_factory=lambda: np.float32(0))
    scale: Features | np.float32 = field(default_factory=lambda: np.float32(1))

    @property
    def n_features(self) -> int:
        """Length D of a feature row."""
        return self.cache.encoder.n_features if self.layers is None else self.layers.n_features

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Candidates:
        """Distinct windows of an image's ground truth (first) and proposals, with their targets."""
        annotation = self.annotations[index]
        boxes, labels = self.boxes(index)
        overlaps = class_overlaps(iou(boxes, annotation.boxes), annotation.labels, self.n_classes)
        targets = mining_targets(overlaps, labels, self.max_negative_iou)
        maps = self.cache.maps(annotation.image_id, annotation.path)
        windows = self.cache.encoder.regions(maps, boxes)
        # ground truth stays whatever it shares its cells with; negatives that read the same cells are one sample
        n_truths = len(labels)
        kept = first_of_each(windows)
        kept = np.concatenate([np.arange(n_truths), kept[kept >= n_truths]])
        return Candidates(windows[kept], targets[kept], partial(self._apply, maps))

    def boxes(self, index: int) -> tuple[Boxes, NDArray[np.int64]]:
        """Boxes ``(R, 4)`` of an image, those of its positive objects first, and these objects' labels."""
        annotation = self.annotations[index]
        chosen = np.ones(len(annotation.labels), bool) if self.difficult else ~annotation.difficult
        proposals = self.cache.proposals(annotation.image_id, annotation.path)
        return np.concatenate([annotation.boxes[chosen], proposals]), annotation.labels[chosen]

    def judged_boxes(self, index: int) -> tuple[Boxes, NDArray[np.float32]]:
        """`boxes` of an image ``(R, 4)`` and their IoU ``(R, N)`` with all N objects.

        Where difficult objects are not to be learned from, boxes that overlap one of them most are left out.
        """
        annotation = self.annotations[index]
        boxes, _ = self.boxes(index)
        overlaps = iou(boxes, annotation.boxes)
        if self.difficult:
            return boxes, overlaps
        kept = judged(overlaps, annotation.difficult)
        return boxes[kept], overlaps[kept]

    def has_objects(self, index: int) -> bool:
        """Whether an image has an object to learn from."""
        annotation = self.annotations[index]
        return bool(len(annotation.labels) if self.difficult else (~annotation.difficult).any())

    def features(self, index: int, boxes: Boxes) -> Features:
        """Features ``(R, D)`` of ``(R, 4)`` boxes of an image."""
        annotation = self.annotations[index]
        maps = self.cache.maps(annotation.image_id, annotation.path)
        return self.cache.encoder.apply(self.scale_features, maps, self.cache.encoder.regions(maps, boxes))

    def _apply(
        self, maps: FeatureMaps, function: Callable[[Features], Features], windows: NDArray[np.int64]
    ) -> Features:
        return self.cache.encoder.apply(lambda features: function(self.scale_features(features)), maps, windows)

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


def scaled(
    images: TrainingSet, mean_norm: float, centre: bool, seed: int, max_images: int = 200, max_boxes: int = 200
) -> TrainingSet:
    """``images`` with features scaled to a mean L2 norm, if asked to after their mean is taken off.

    Both are measured on random boxes of random images, with the same draw (release: spp_feature_stats). Features
    that stand side by side get equal shares of the norm.
    """
    if centre:
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
        candidates = images[int(index)]
        rows = rng.permutation(len(candidates.windows))[:max_boxes]
        yield candidates.pool(candidates.windows[rows])


def judged(overlaps: NDArray[np.float32], ignored: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows of ``overlaps`` ``(R, N)`` of boxes that do not overlap an ``ignored`` ``(N,)`` object most, ascending."""
    if not ignored.any():
        return np.arange(len(overlaps))
    return np.flatnonzero(~ignored[overlaps.argmax(1)] | (overlaps.max(1) == 0))
