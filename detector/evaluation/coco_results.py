"""COCO's result files: a JSON list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detector.datasets.annotation import Dataset
from detector.evaluation.outcomes import Outcomes
from detector.evaluation.voc import ClassDetections

_GREATEST = 1e30
"""Of numbers, which NaN does not reach: what fits into float32, with sides added."""
_KEYS = ("image_id", "category_id", "bbox", "score")


class CocoIds(NamedTuple):
    """What result files call images, by our image ids, and classes, in our order."""

    images: Mapping[str, int | str]
    categories: Sequence[int]


def plain_ids(dataset: Dataset) -> CocoIds:
    """Of a data set that is no COCO file: image ids as they are, and classes counted from 1."""
    return CocoIds({each.image_id: each.image_id for each in dataset}, range(1, len(dataset.class_names) + 1))


def coco_ids(path: Path, dataset: Dataset) -> CocoIds:
    """Of a data set that `detector.datasets.coco.load_coco` has read from ``path``: the ids of that file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    categories = {each["name"].strip(): each["id"] for each in content["categories"]}
    by_file = {each["file_name"].replace("\\", "/"): each["id"] for each in content["images"]}
    images = {}
    for each in dataset:
        parts = each.path.parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        images[each.image_id] = next(by_file[end] for end in ends if end in by_file)
    return CocoIds(images, [categories[name] for name in dataset.class_names])


def to_coco_results(outcomes: Outcomes, ids: CocoIds) -> list[dict[str, Any]]:
    """All detections, class by class and best first."""
    names = [ids.images[image_id] for image_id in outcomes.image_ids]
    columns = (outcomes.images.tolist(), outcomes.labels.tolist(), outcomes.boxes.tolist(), outcomes.scores.tolist())
    return [
        {
            "image_id": names[image],
            "category_id": ids.categories[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for image, label, (x1, y1, x2, y2), score in zip(*columns, strict=True)
    ]


def read_coco_results(path: Path, ids: CocoIds, class_names: Sequence[str]) -> dict[str, ClassDetections]:
    """Read a result file in the form that `detector.evaluation.voc.evaluate_voc` takes.

    Where images have names of digits alone, such as 000012, their numbers are taken, too. Detections of categories
    that are not among the classes are left out, as of comp4 files. Raises OSError for a file that cannot be read, and
    ValueError, naming it, where it holds something else, or detections of unknown images.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(content, list):
        raise ValueError(f"{path}: not a COCO result file: it must be a list of detections")
    image_of: dict[Any, str] = {int(name): name for name in ids.images if name.isascii() and name.isdigit()}
    image_of |= {key: name for name, key in ids.images.items()}
    label_of = {category: label for label, category in enumerate(ids.categories)}
    image_ids: list[list[str]] = [[] for _ in class_names]
    rows: list[list[list[float]]] = [[] for _ in class_names]
    for number, each in enumerate(content):
        place = f"{path}: detection {number}"
        if not isinstance(each, dict) or not all(key in each for key in _KEYS):
            raise ValueError(f"{place}: must have the keys {', '.join(_KEYS)}")
        if not isinstance(each["category_id"], int) or each["category_id"] not in label_of:
            continue
        if not isinstance(each["image_id"], int | str) or each["image_id"] not in image_of:
            raise ValueError(f"{place}: there is no image {each['image_id']!r} among the {len(ids.images)} evaluated")
        label = label_of[each["category_id"]]
        image_ids[label].append(image_of[each["image_id"]])
        rows[label].append(_read_row(each, place))
    if content and not any(rows):
        raise ValueError(f"{path}: no detection is of a class to evaluate")
    found = {}
    for label, name in enumerate(class_names):
        numbers = np.array(rows[label], np.float64).reshape(-1, 5)
        boxes = np.concatenate([numbers[:, :2], numbers[:, :2] + numbers[:, 2:4]], axis=1)
        found[name] = ClassDetections(image_ids[label], boxes.astype(np.float32), numbers[:, 4])
    return found


def _read_row(detection: Mapping[str, Any], place: str) -> list[float]:
    """x, y, width, height, score."""
    box = detection["bbox"]
    values = [*box, detection["score"]] if isinstance(box, list) and len(box) == 4 else []
    if not values or not all(type(value) in (int, float) and abs(value) <= _GREATEST for value in values):
        raise ValueError(f"{place}: bbox must be the numbers x, y, width, height, and score a number")
    if box[2] < 0 or box[3] < 0:
        raise ValueError(f"{place}: bbox must have a width and height of at least 0, but has {box[2]} and {box[3]}")
    return [float(value) for value in values]
