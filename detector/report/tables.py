"""The files next to the page: metrics.json, metrics.csv, errors.csv and detections.json."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detector.evaluation.coco_results import to_coco_results
from detector.evaluation.error_kinds import FALSE_KINDS
from detector.report.run import Analysis, to_metrics
from detector.runtime.files import replacing, write_json

ERROR_COLUMNS = (
    *("kind", "image", "class", "score", "x1", "y1", "x2", "y2", "iou"),
    *("object_class", "object_x1", "object_y1", "object_x2", "object_y2"),
)


def write_tables(directory: Path, analysis: Analysis) -> None:
    """Write the four files, each whole or not at all."""
    metrics = to_metrics(analysis)
    write_json(directory / "metrics.json", metrics)
    rows = ({"class": name, **values} for name, values in metrics["classes"].items())
    columns = ["class", *(next(iter(metrics["classes"].values())) if metrics["classes"] else ())]
    _write_csv(directory / "metrics.csv", columns, ([row[column] for column in columns] for row in rows))
    _write_csv(directory / "errors.csv", ERROR_COLUMNS, _error_rows(analysis))
    with replacing(directory / "detections.json") as temporary:
        found = to_coco_results(analysis.run.outcomes, analysis.run.ids)
        temporary.write_text(json.dumps(found) + "\n", encoding="utf-8")


def read_baseline(path: Path, metric: str, n_images: int) -> dict[str, Any]:
    """The metrics.json of a report, or what ``spp-evaluate --json`` wrote, of a run by this rule on so many images.

    Raises OSError when it cannot be read and ValueError, naming it, when it is no such file or of another kind of run.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error})") from error
    known = isinstance(content, dict) and isinstance(content.get("AP"), dict)
    if not known or not isinstance(content.get("mAP"), int | float):
        raise ValueError(f"{path}: not the numbers of a run: it must have mAP and AP")
    for key, value in (("metric", metric), ("images", n_images)):
        if content.get(key) != value:
            raise ValueError(f"{path}: {key} must be {value}, as in this run, but is {content.get(key)!r}")
    return content


def _write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:
    # spreadsheets take a text that begins so for a formula
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _error_rows(analysis: Analysis) -> Iterator[list[Any]]:
    """False detections, class by class and best first, then missed objects, image by image."""
    outcomes, kinds = analysis.run.outcomes, analysis.kinds
    objects, names, image_ids = outcomes.objects, outcomes.class_names, outcomes.image_ids
    rows = np.flatnonzero(outcomes.false)
    targets, overlaps = (column[rows].tolist() for column in kinds.about())
    boxes, object_boxes = np.round(outcomes.boxes[rows], 2).tolist(), objects.boxes.tolist()
    object_names = [names[label] for label in objects.labels]
    columns = (column[rows].tolist() for column in (kinds.kinds, outcomes.images, outcomes.labels, outcomes.scores))
    for kind, image, label, score, box, target, overlap in zip(*columns, boxes, targets, overlaps, strict=True):
        about = [object_names[target], *object_boxes[target]] if target >= 0 else [""] * 5
        yield [FALSE_KINDS[kind], image_ids[image], names[label], score, *box, round(overlap, 4), *about]
    for row in np.flatnonzero(kinds.missed).tolist():
        yield ["missed", image_ids[objects.images[row]], *[""] * 7, object_names[row], *object_boxes[row]]
