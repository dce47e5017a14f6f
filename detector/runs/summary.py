"""Summarize a training: how good the model is, what limits it, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from detector.datasets.inspection import SMALL, ClassCounts
from detector.datasets.loading import DataSource
from detector.evaluation.held_out import HeldOutResult
from detector.runs.commands import detect_command, doubt_command, serve_command, train_command
from detector.training.adaptation import Adapted

FEW_OBJECTS = 50
_GOOD = 0.9  # of AP50


def describe(name: str, counts: ClassCounts) -> str:
    """Describe a class in a line, such as "bottle: 14 objects, 9 of them below 32 px, in 3 images"."""
    parts = [f"{name}: {_number(counts.objects, 'object')}"]
    if counts.small:
        parts.append(f"{counts.small} of them below {SMALL**0.5:.0f} px")
    if counts.difficult:
        parts.append(f"{counts.difficult} of them difficult")
    return f"{', '.join(parts)}, in {_number(counts.images, 'image')}"


def precision_lines(counts: Mapping[str, ClassCounts], result: HeldOutResult) -> list[str]:
    """Return a line per class, best first, and one for all: average precision, its error, numbers of objects."""
    width = max(len(name) for name in (*result.class_names, "mAP"))
    lines = []
    for label in np.argsort(-np.nan_to_num(result.AP, nan=-1.0), kind="stable").tolist():
        name = result.class_names[label]
        learned, held_out = counts[name].objects, int(result.objects[label])
        value = _percent(float(result.AP[label]), float(result.errors[label]))
        reason = f" ({result.unmeasured[name]})" if name in result.unmeasured else ""
        lines.append(f"{name:<{width}}  {value}   {learned} objects learned, {held_out} held out{reason}")
    coco = "" if result.coco_AP is None or np.isnan(result.coco_AP) else f"   COCO AP {100 * result.coco_AP:.1f}"
    return [*lines, f"{'mAP':<{width}}  {_percent(result.mAP, result.mAP_error)}{coco}".rstrip()]


def weakest(counts: Mapping[str, ClassCounts], result: HeldOutResult | None) -> str:
    """Return the class of the lowest average precision on held-out images; without any, that of the fewest objects."""
    if result is None or np.isnan(result.AP).all():
        return min(counts, key=lambda name: counts[name].objects)
    return result.class_names[int(np.nanargmin(result.AP))]


def summarize(
    folder: Path,
    source: DataSource,
    counts: Mapping[str, ClassCounts],
    result: HeldOutResult | None,
    adapted: Adapted | None,
    too_weak: bool,
    image: Path | None,
) -> list[str]:
    """Return three lines: how good the model is, what limits it and why, and what to do next, as a command.

    folder: of the run. counts: of the training images. adapted: with the recall of the proposals, if measured.
    too_weak: whether the model shows nothing by default. image: one to detect in, if it will still be there.
    """
    name = weakest(counts, result)
    if result is None or np.isnan(result.mAP):
        why = "too few objects to try it on" if result is None else "no object is left to be found"
        return [
            f"how good: unknown, {why}",
            f"weakest: {name}, with {_number(counts[name].objects, 'object')}",
            f"next: label more images, then {train_command(source)}",
        ]
    good = f"how good: {how_good(result)}"
    if too_weak:
        good += "; too weak to show boxes by default"
    ap = float(np.nanmin(result.AP))
    limit = f"weakest: {name}, AP50 {100 * ap:.1f}"
    if adapted is not None and adapted.recall.is_low:
        recall = f"cause: {adapted.recall.consequence}"
        return [good, f"{limit}; {recall}", f"next: {adapted.remedy}; then {train_command(source)}"]
    n_objects = counts[name].objects
    if ap >= _GOOD:
        step = f"use it: {serve_command(folder) if image is None else detect_command(image, folder)}"
    elif n_objects < FEW_OBJECTS:
        limit += f"; cause: it has only {_number(n_objects, 'object')}"
        step = f"label at least {FEW_OBJECTS - n_objects} more objects of {name}, then {train_command(source)}"
    else:
        if counts[name].small > n_objects / 2:
            limit += f"; cause: most of its objects are small, below {SMALL**0.5:.0f} px"
        step = f"look for wrong labels: {doubt_command(source, folder)}"
    return [good, limit, f"next: {step}"]


def how_good(result: HeldOutResult) -> str:
    """Return the accuracy in words, such as "mAP50 71.2 ± 3.0 (100: ...), on 30 images of mine val"."""
    rule = "mAP of VOC2007" if result.metric == "voc07" else "mAP50"
    error = "" if np.isnan(result.mAP_error) else f" ± {100 * result.mAP_error:.1f}"
    value = f"{rule} {100 * result.mAP:.1f}{error}"
    return f"{value} (100: all found, nothing else), on {_number(result.images, 'image')} of {result.data}"


def _percent(value: float, error: float) -> str:
    if np.isnan(value):
        return "  -".ljust(12)
    return f"{100 * value:5.1f} ± {'?' if np.isnan(error) else f'{100 * error:.1f}'}".ljust(12)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
