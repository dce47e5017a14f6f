"""Random boxes to train on, a fraction of them objects (release: spp_finetune)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, encode_deltas, flip, iou
from detector.config.detector import FineTuningConfig
from detector.training.training_set import TrainingSet

Features = NDArray[np.float32]

DELTA_SPREAD = np.array([0.1, 0.1, 0.2, 0.2], np.float32)
"""Unit of the box deltas in training, which brings them to about 1 (Fast R-CNN's release)."""


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
    """Return rows ``(n,)`` and labels ``(n,)``, int64, of random boxes, ``foreground_fraction`` of them objects.

    ``overlaps`` ``(R, N)`` is the IoU with all N objects. A box takes the class of the object that it overlaps most, if
    by at least ``min_iou``; it is background (label K) if its IoU is in ``background_iou``, half-open. If an image has
    too few boxes of a kind, there are fewer.
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
    """Random boxes at random scales of the images at ``indices`` of a training set, for fine-tuning.

    They are sampled by `sample_boxes` with the constants of ``config``; with its ``flips``, every second image, at
    random, is mirrored.
    """

    images: TrainingSet
    indices: NDArray[np.int64]
    config: FineTuningConfig

    @property
    def n_features(self) -> int:
        return self.images.n_features

    @property
    def n_classes(self) -> int:
        return self.images.n_classes

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self, index: int, n_boxes: int, random: np.random.Generator) -> tuple[Features, NDArray[np.int64]]:
        """Return scaled features ``(n, D)`` of up to ``n_boxes`` boxes and their labels ``(n,)``; background is K."""
        images, config, index = self.images, self.config, int(self.indices[index])
        annotation = images.annotations[index]
        boxes, overlaps = images.labeled_boxes(index)
        rows, labels = sample_boxes(
            overlaps,
            annotation.labels,
            images.n_classes,
            n_boxes,
            random,
            config.foreground_fraction,
            config.min_iou,
            config.background_iou,
        )
        mirrored = config.flips and bool(random.integers(2))
        maps = (images.cache.mirrored_maps if mirrored else images.cache.maps)(
            annotation.image_id, annotation.path, annotation.window
        )
        sampled = flip(boxes[rows], maps.image_size[1]) if mirrored else boxes[rows]
        scales = random.integers(len(maps.zooms), size=len(rows))
        regions = images.cache.encoder.regions(maps, sampled, scales)
        return images.cache.encoder.apply(images.scale_features, maps, regions), labels


def validation_split(images: TrainingSet, config: FineTuningConfig) -> tuple[RandomBoxes, RandomBoxes]:
    """Return the images with objects to fine-tune on, and those to validate on; tiles stay with their image.

    Raises ValueError for fewer than two images with objects.
    """
    usable = [index for index in range(len(images)) if images.has_objects(index)]
    ids = [*dict.fromkeys(images.annotations[index].image_id for index in usable)]
    if len(ids) < 2:
        raise ValueError(f"fine-tuning needs two images with objects, one to hold out, but there is {len(ids)}")
    order = np.random.default_rng(config.seed).permutation(len(ids))
    held_out = {ids[number] for number in order[: max(1, round(config.held_out * len(ids)))]}
    is_held_out = np.array([images.annotations[index].image_id in held_out for index in usable])
    training, validation = np.array(usable)[~is_held_out], np.array(usable)[is_held_out]
    return RandomBoxes(images, training, config), RandomBoxes(images, validation, config)


@dataclass(frozen=True, eq=False)
class LabeledBoxes:
    """Boxes ``(n, 4)``, their labels ``(n,)`` int64, background being K, and the deltas to their objects.

    ``objects`` ``(n, 4)`` are those that the boxes overlap most, and the boxes themselves for background; ``deltas``
    ``(n, 4)`` float32 lead there, in units of `DELTA_SPREAD`.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    objects: Boxes

    @cached_property
    def deltas(self) -> NDArray[np.float32]:
        return encode_deltas(self.boxes, self.objects) / DELTA_SPREAD

    def mirrored(self, width: int) -> LabeledBoxes:
        """Return the boxes in the mirror image of an image ``width`` pixels wide."""
        return LabeledBoxes(flip(self.boxes, width), self.labels, flip(self.objects, width))

    def refined(self, boxes: Boxes, rows: NDArray[np.int64], min_iou: float) -> LabeledBoxes:
        """Return the boxes at ``rows`` ``(m,)`` as they were refined to ``boxes`` ``(m, 4)``.

        Those that overlap their object by less than ``min_iou`` are left out.
        """
        kept = iou(boxes, self.objects[rows]).diagonal() >= min_iou
        return LabeledBoxes(boxes[kept], self.labels[rows[kept]], self.objects[rows[kept]])


def sample_labeled_boxes(
    images: TrainingSet,
    index: int,
    n_boxes: int,
    foreground_fraction: float,
    min_iou: float,
    random: np.random.Generator,
) -> LabeledBoxes:
    """Return up to ``n_boxes`` random boxes of an image, at most ``foreground_fraction`` of them objects.

    All boxes below ``min_iou`` are background, also those that overlap no object: hard example mining selects among
    them. The deltas of a box lead to the object that it overlaps most.
    """
    annotation = images.annotations[index]
    boxes, overlaps = images.labeled_boxes(index)
    n_classes = images.n_classes
    everything = (0.0, min_iou)
    rows, labels = sample_boxes(
        overlaps, annotation.labels, n_classes, n_boxes, random, foreground_fraction, min_iou, everything
    )
    objects = boxes[rows]
    if (foreground := labels < n_classes).any():
        objects[foreground] = annotation.boxes[overlaps[rows[foreground]].argmax(1)]
    return LabeledBoxes(boxes[rows], labels, objects)
