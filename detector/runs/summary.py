"""Summarize a training: how good the model is, what limits it, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from detector.datasets.inspection import SMALL, ClassCounts
from detector.datasets.loading import DataSource
from detector.evaluation.held_out import HeldOutResult
from detector.evaluation.proposal_recall import LOW_RECALL, ProposalRecall

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
    recall: ProposalRecall | None,
) -> list[str]:
    """Return three lines: how good the model is, what limits it and why, and what to do next, as a command."""
    data, model = _data_options(source), shlex.quote(str(folder))
    name = weakest(counts, result)
    least = f"{name} has only {_number(counts[name].objects, 'object')}"
    if result is None or np.isnan(result.mAP):
        why = "no object of another image could be compared" if result is None else "no object is left to be found"
        good = f"how good: unknown, because {why}"
        limit = f"weakest: {least}" if counts[name].objects < FEW_OBJECTS else "weakest: unknown"
        return [good, limit, f"next: label more images, then run spp train {data}"]
    good = (
        f"how good: mAP50 {_percent(result.mAP, result.mAP_error).strip()} of 100, "
        f"on {_number(result.images, 'image')} of {result.data}"
    )
    ap = float(np.nanmin(result.AP))
    limit = f"weakest: {name}, AP50 {100 * ap:.1f}"
    if recall is not None and recall.at(0.5) < LOW_RECALL:
        limit += (
            f"; cause: only {100 * recall.at(0.5):.0f} % of the objects are covered by proposals, the rest is missed"
        )
    elif counts[name].small > counts[name].objects / 2:
        limit += f"; cause: most of its objects are small, below {SMALL**0.5:.0f} px"
    elif counts[name].objects < FEW_OBJECTS:
        limit += f"; cause: {least}, {FEW_OBJECTS} are a good start"
    elif ap < _GOOD:
        limit += "; see what it is mistaken for in the report"
    if ap < _GOOD and counts[name].objects >= FEW_OBJECTS:
        step = f"look for label errors: spp data doubt {data} --model {model}"
    elif ap < _GOOD:
        step = f"label more of {name}, with drafts by this model: spp data next FOLDER --model {model}"
    else:
        step = f"use it: spp detect FOLDER --model {model}"
    return [good, limit, f"next: {step}"]


def _data_options(source: DataSource) -> str:
    """Return the options that name a data set on the command line."""
    path = shlex.quote(str(source.path))
    if source.shorthand == "voc":
        return f"--voc {path} --split {shlex.quote(source.split or '')}"
    if source.shorthand == "coco":
        return f"--coco {path}"
    return " ".join([path, *(shlex.quote(str(each)) for each in source.more)])


def _percent(value: float, error: float) -> str:
    if np.isnan(value):
        return "  -".ljust(12)
    return f"{100 * value:5.1f} ± {'?' if np.isnan(error) else f'{100 * error:.1f}'}".ljust(12)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
