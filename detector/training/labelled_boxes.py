"""Boxes of an image to learn from, each with its class and where it should move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, encode_deltas, flip
from detector.training.sampling import sample_boxes
from detector.training.training_set import TrainingSet

DELTA_SPREAD = np.array([0.1, 0.1, 0.2, 0.2], np.float32)
"""Deltas are learned in units of this, so that they are of about 1 (Fast R-CNN's release)."""


@dataclass(frozen=True, eq=False)
class LabelledBoxes:
    """Boxes ``(n, 4)``, their labels ``(n,)`` int64, background being K, and where they should move.

    ``deltas`` ``(n, 4)`` float32 are in units of `DELTA_SPREAD`, and zeros for background.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    deltas: NDArray[np.float32]

    def mirrored(self, width: int) -> LabelledBoxes:
        """The same in the mirror image of an image ``width`` pixels wide."""
        return LabelledBoxes(flip(self.boxes, width), self.labels, self.deltas * np.array([-1, 1, 1, 1], np.float32))


def draw_boxes(
    images: TrainingSet, index: int, n_boxes: int, foreground: float, min_iou: float, random: np.random.Generator
) -> LabelledBoxes:
    """Random boxes of an image, at most ``n_boxes``, of which objects are at most the share ``foreground``.

    All boxes below ``min_iou`` are background, those that no object overlaps, too: which of them are worth learning
    from is for the network to say. A box moves onto the object that it overlaps most.
    """
    annotation = images.annotations[index]
    boxes, overlaps = images.labelled_boxes(index)
    n_classes = images.n_classes
    everything = (0.0, min_iou)
    rows, labels = sample_boxes(
        overlaps, annotation.labels, n_classes, n_boxes, random, foreground, min_iou, everything
    )
    chosen, deltas = boxes[rows], np.zeros((len(rows), 4), np.float32)
    if (objects := labels < n_classes).any():
        nearest = annotation.boxes[overlaps[rows[objects]].argmax(1)]
        deltas[objects] = encode_deltas(chosen[objects], nearest) / DELTA_SPREAD
    return LabelledBoxes(chosen, labels, deltas)
