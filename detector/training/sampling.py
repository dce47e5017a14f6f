"""Random boxes to learn from, a share of them objects (release: spp_finetune)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, encode_deltas, flip
from detector.config.detector import FineTuningConfig
from detector.features.encoder import FeatureMaps
from detector.training.training_set import TrainingSet

Features = NDArray[np.float32]


def sample_boxes(
    overlaps: NDArray[np.float32],
    object_labels: NDArray[np.int64],
    n_classes: int,
    n_boxes: int,
    random: np.random.Generator,
    foreground_fraction: float = 0.25,
    min_iou: float = 0.5,
    background_iou: tuple[float, float] = (0.1, 0.5),
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows ``(n,)`` and labels ``(n,)``, int64, of random boxes, ``foreground_fraction`` of them objects.

    ``overlaps`` ``(R, N)`` is the IoU with all N objects: a box is of the class of the one it overlaps most, if by at
    least ``min_iou``, and background (label K) if its IoU is in ``background_iou``, half-open. Where an image has
    too few of a kind there are fewer.
    """
    best = overlaps.max(1, initial=0)
    objects = np.flatnonzero(best >= min_iou)
    others = np.flatnonzero((best >= background_iou[0]) & (best < background_iou[1]))
    n_objects = round(foreground_fraction * n_boxes)
    objects = random.permutation(objects)[:n_objects]
    others = random.permutation(others)[: n_boxes - n_objects]
    labels = np.full(len(objects) + len(others), n_classes)
    if len(objects):
        labels[: len(objects)] = object_labels[overlaps[objects].argmax(1)]
    return np.concatenate([objects, others]), labels


@dataclass(frozen=True)
class RandomBoxes:
    """The images at ``indices`` of a training set as fine-tuning sees them: random boxes at random scales.

    The share of ``foreground_fraction``, its ``min_iou`` and ``background_iou`` are those of `sample_boxes`. With
    ``flips``, every other image, at random, is taken mirrored. With ``one_scale`` all boxes of an image are at the
    same scale, so that layers which learn see one map of it.
    """

    images: TrainingSet
    indices: NDArray[np.int64]
    foreground_fraction: float = 0.25
    min_iou: float = 0.5
    background_iou: tuple[float, float] = (0.1, 0.5)
    flips: bool = False
    one_scale: bool = False

    @property
    def n_features(self) -> int:
        return self.images.n_features

    @property
    def n_classes(self) -> int:
        return self.images.n_classes

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self, index: int, n_boxes: int, random: np.random.Generator) -> tuple[Features, NDArray[np.int64]]:
        """Scaled features ``(n, D)`` of at most ``n_boxes`` boxes and their labels ``(n,)``, background being K."""
        maps, regions, labels = self.draw(index, n_boxes, random)
        return self.images.cache.encoder.apply(self.images.scale_features, maps, regions), labels

    def draw(
        self, index: int, n_boxes: int, random: np.random.Generator
    ) -> tuple[FeatureMaps, NDArray[np.int64], NDArray[np.int64]]:
        """`sample` before pooling: the image's maps, regions ``(n, 5)`` and labels ``(n,)``."""
        images, index = self.images, int(self.indices[index])
        annotation = images.annotations[index]
        boxes, overlaps = images.labeled_boxes(index)
        rows, labels = sample_boxes(
            overlaps,
            annotation.labels,
            images.n_classes,
            n_boxes,
            random,
            self.foreground_fraction,
            self.min_iou,
            self.background_iou,
        )
        mirrored = self.flips and bool(random.integers(2))
        cached = images.cache.mirrored_maps if mirrored else images.cache.maps
        maps = cached(annotation.image_id, annotation.path)
        chosen = flip(boxes[rows], maps.image_size[1]) if mirrored else boxes[rows]
        scales = random.integers(len(maps.zooms), size=1 if self.one_scale else len(rows))
        regions = images.cache.encoder.regions(maps, chosen, np.broadcast_to(scales, len(rows)))
        return maps, regions, labels


def validation_split(images: TrainingSet, config: FineTuningConfig) -> tuple[RandomBoxes, RandomBoxes]:
    """The images with objects to learn from, and those to validate on, as fine-tuning sees them.

    Raises ValueError for less than two images with objects.
    """
    usable = np.array([index for index in range(len(images)) if images.has_objects(index)])
    if len(usable) < 2:
        raise ValueError(f"fine-tuning needs two images with objects, one to hold out, but there is {len(usable)}")
    order = np.random.default_rng(config.seed).permutation(usable)
    n_validation = max(1, round(config.held_out * len(usable)))

    def boxes_of(indices: NDArray[np.int64]) -> RandomBoxes:
        return RandomBoxes(
            images, np.sort(indices), config.foreground_fraction, config.min_iou, config.background_iou, config.flips
        )

    return boxes_of(order[n_validation:]), boxes_of(order[:n_validation])


DELTA_SPREAD = np.array([0.1, 0.1, 0.2, 0.2], np.float32)
"""Deltas are learned in units of this, so that they are of about 1 (Fast R-CNN's release)."""


@dataclass(frozen=True, eq=False)
class LabeledBoxes:
    """Boxes ``(n, 4)``, their labels ``(n,)`` int64, background being K, and where they should move.

    ``deltas`` ``(n, 4)`` float32 are in units of `DELTA_SPREAD`, and zeros for background.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    deltas: NDArray[np.float32]

    def mirrored(self, width: int) -> LabeledBoxes:
        """The same in the mirror image of an image ``width`` pixels wide."""
        return LabeledBoxes(flip(self.boxes, width), self.labels, self.deltas * np.array([-1, 1, 1, 1], np.float32))


def draw_boxes(
    images: TrainingSet,
    index: int,
    n_boxes: int,
    foreground_fraction: float,
    min_iou: float,
    random: np.random.Generator,
) -> LabeledBoxes:
    """Random boxes of an image, at most ``n_boxes``, of which objects are at most the share ``foreground_fraction``.

    All boxes below ``min_iou`` are background, those that no object overlaps, too: which of them are worth learning
    from is for the network to say. A box moves onto the object that it overlaps most.
    """
    annotation = images.annotations[index]
    boxes, overlaps = images.labeled_boxes(index)
    n_classes = images.n_classes
    everything = (0.0, min_iou)
    rows, labels = sample_boxes(
        overlaps, annotation.labels, n_classes, n_boxes, random, foreground_fraction, min_iou, everything
    )
    chosen, deltas = boxes[rows], np.zeros((len(rows), 4), np.float32)
    if (objects := labels < n_classes).any():
        nearest = annotation.boxes[overlaps[rows[objects]].argmax(1)]
        deltas[objects] = encode_deltas(chosen[objects], nearest) / DELTA_SPREAD
    return LabeledBoxes(chosen, labels, deltas)
