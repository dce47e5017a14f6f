"""A training in a few lines: how good the model is, what its weakest class lacks, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.boxes import area
from detector.datasets.annotation import Dataset
from detector.evaluation.held_out import HeldOutResult

SMALL_SIDE = 32  # pixels of a square of the same area, as COCO counts
FEW_OBJECTS = 50
_UNSURE = 0.05  # of mAP: with a greater error, it says little
_FEW_HELD_OUT = 10  # objects


@dataclass(frozen=True)
class ClassCounts:
    """Objects of a class to learn from: how many, in how many images, how many of them small or difficult."""

    name: str
    objects: int
    images: int
    small: int
    difficult: int

    def __str__(self) -> str:
        """Such as "bottle: 14 objects, 9 of them below 32 px, in 3 images"."""
        parts = [f"{self.name}: {_number(self.objects, 'object')}"]
        if self.small:
            parts.append(f"{self.small} of them below {SMALL_SIDE} px")
        if self.difficult:
            parts.append(f"{self.difficult} of them difficult")
        return f"{', '.join(parts)}, in {_number(self.images, 'image')}"


def count_objects(dataset: Dataset) -> list[ClassCounts]:
    """Counts of each class, in their order."""
    labels, sizes, difficult, images = _table(dataset)
    counts = []
    for label, name in enumerate(dataset.class_names):
        rows = labels == label
        small = int((sizes[rows] < SMALL_SIDE**2).sum())
        n_images = len(np.unique(images[rows]))
        counts.append(ClassCounts(name, int(rows.sum()), n_images, small, int(difficult[rows].sum())))
    return counts


def _table(dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]:
    """Label, area, difficult and number of the image of all objects, (N,) each."""
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(each.boxes for each in dataset)])
    labels = np.concatenate([np.zeros(0, np.int64), *(each.labels for each in dataset)])
    difficult = np.concatenate([np.zeros(0, np.bool_), *(each.difficult for each in dataset)])
    images = np.repeat(np.arange(len(dataset)), [len(each.labels) for each in dataset])
    return labels, area(boxes), difficult, images


def precision_lines(counts: list[ClassCounts], result: HeldOutResult) -> list[str]:
    """A line a class, best first, and one for all: average precision, its error, objects learned from and held out."""
    width = max(len(name) for name in (*result.class_names, "mAP"))
    lines = []
    for label in np.argsort(-np.nan_to_num(result.AP, nan=-1.0), kind="stable").tolist():
        learned, held_out = counts[label].objects, int(result.objects[label])
        value = _percent(float(result.AP[label]), float(result.errors[label]))
        lines.append(f"{result.class_names[label]:<{width}}  {value}   {learned} objects learned, {held_out} held out")
    return [*lines, f"{'mAP':<{width}}  {_percent(result.mAP, result.mAP_error)}".rstrip()]


def weakest(counts: list[ClassCounts], result: HeldOutResult | None) -> ClassCounts:
    """The class of the least average precision on held-out images or, where none tell it, of the fewest objects."""
    if result is None or np.isnan(result.AP).all():
        return min(counts, key=lambda each: each.objects)
    return counts[int(np.nanargmin(result.AP))]


def next_steps(counts: list[ClassCounts], result: HeldOutResult | None) -> list[str]:
    """What would help most, the most helpful first."""
    steps = []
    if result is None:
        steps.append(
            "hold images out, so that the model can be measured: a list val next to that of --voc, or --hold-out 0.2 "
            "with --data"
        )
    weak = weakest(counts, result)
    if weak.small > weak.objects / 2:
        steps.append(
            f"most objects of {weak.name} are small: photograph it from nearer, or raise short_sides in the recipe"
        )
    if weak.objects < FEW_OBJECTS:
        steps.append(f"label more of {weak.name}: {FEW_OBJECTS} objects are a good start")
    if result is not None:
        if not result.mAP_error <= _UNSURE or min(result.objects) < _FEW_HELD_OUT:
            steps.append(f"hold out more than {_number(result.images, 'image')}: these tell little about some classes")
        if not steps:
            steps.append("find out whether more images would help: --learning-curve")
    return steps


def _percent(value: float, error: float) -> str:
    if np.isnan(value):
        return "  -  (no object held out)"
    return f"{100 * value:5.1f} ± {'?' if np.isnan(error) else f'{100 * error:.1f}'}".ljust(12)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
