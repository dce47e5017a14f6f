"""Summarize a training in a few lines: the accuracy by class, the weakest class, and the next steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from detector.datasets.inspection import SMALL, ClassCounts
from detector.evaluation.held_out import HeldOutResult

FEW_OBJECTS = 50
_LARGE_ERROR = 0.05  # of mAP
_FEW_HELD_OUT = 10  # objects


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


def next_steps(counts: Mapping[str, ClassCounts], result: HeldOutResult | None) -> list[str]:
    """Return what would improve the model, the most helpful first."""
    steps = []
    if result is None:
        steps.append(
            "hold images out, so that the model can be measured: a list val next to that of --voc, or --hold-out 0.2 "
            "with --data"
        )
    name = weakest(counts, result)
    if counts[name].small > counts[name].objects / 2:
        steps.append(f"most objects of {name} are small: photograph it from nearer, or raise short_sides in the recipe")
    if counts[name].objects < FEW_OBJECTS:
        steps.append(f"label more of {name}: {FEW_OBJECTS} objects are a good start")
    if result is not None:
        if not result.mAP_error <= _LARGE_ERROR or min(result.objects) < _FEW_HELD_OUT:
            steps.append(f"hold out more than {_number(result.images, 'image')}: they say little about some classes")
        if not steps:
            steps.append("find out whether more images would help: --learning-curve")
    return steps


def _percent(value: float, error: float) -> str:
    if np.isnan(value):
        return "  -".ljust(12)
    return f"{100 * value:5.1f} ± {'?' if np.isnan(error) else f'{100 * error:.1f}'}".ljust(12)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
