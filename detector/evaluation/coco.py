"""COCO's metric, computed by pycocotools, and COCO result files.

A result file is a JSON list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Dataset
from detector.datasets.text import read_json
from detector.evaluation.outcomes import ClassDetections, Outcomes
from detector.evaluation.voc import Result
from detector.runtime.optional import optional

_NUMBERS = ("AP50", "AP75", "AP_small", "AP_medium", "AP_large")
_MAX_NUMBER = 1e30
"""Bound that NaN does not satisfy: fits into float32, also after adding sides."""
_KEYS = ("image_id", "category_id", "bbox", "score")


class CocoIds(NamedTuple):
    """Ids in result files: of images by our image id, and of categories in the order of our classes."""

    images: Mapping[str, int | str]
    categories: Sequence[int]


def evaluate_coco(outcomes: Outcomes, ids: CocoIds | None = None) -> Result:
    """Return COCO's average precisions, with at most 100 detections per image.

    ids: of the images, in whose order pycocotools takes detections with equal scores, if they are numbers; by default
    in the order of the outcomes.

    AP: by class, and mAP: over the classes, the mean over IoU .50, .55 .. .95. more: AP50 and AP75 at these IoU, and
    AP_small, AP_medium and AP_large of objects below 32 x 32 pixels, below 96 x 96, and the rest; NaN for none.
    Difficult objects are COCO's crowds: detections inside them count neither way. The size of an object is that of
    its box, where COCO has that of its outline.
    """
    n_images, n_classes, objects = len(outcomes.image_ids), len(outcomes.class_names), outcomes.objects
    ranks = _ranks(outcomes.image_ids, ids)
    truth = _rows(ranks[objects.images], objects.labels, objects.boxes, iscrowd=objects.difficult.astype(int))
    found = _rows(ranks[outcomes.images], outcomes.labels, outcomes.boxes, score=outcomes.scores)
    evaluator_of = optional("pycocotools.cocoeval", "coco").COCOeval
    with redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluator = evaluator_of(*(_indexed(rows, n_images, n_classes) for rows in (truth, found)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision = evaluator.eval["precision"][..., 0, -1]  # of all sizes: (IoU, recalls, K)
    means = [_mean_of_known(precision[:, :, label]) for label in range(n_classes)]
    mean, *more = [float("nan") if value < 0 else float(value) for value in evaluator.stats[:6]]
    by_name = dict(zip(outcomes.class_names, means, strict=True))
    return Result("coco", by_name, n_images, mean, dict(zip(_NUMBERS, more, strict=True)))


def _ranks(image_ids: Sequence[str], ids: CocoIds | None) -> NDArray[np.int64]:
    """Return the place of each image in the order of pycocotools, (N,)."""
    keys = [] if ids is None else [ids.images[each] for each in image_ids]
    if not all(isinstance(key, int) for key in keys):
        keys = []
    ranks = np.arange(len(image_ids))
    ranks[np.argsort(np.array(keys or ranks), kind="stable")] = np.arange(len(image_ids))
    return ranks


def _rows(
    images: NDArray[np.int64], labels: NDArray[np.int64], boxes: NDArray[np.float64], **more: NDArray[Any]
) -> list[dict[str, Any]]:
    """Convert objects or detections to COCO's records; images and classes are counted from 1."""
    sides = boxes[:, 2:] - boxes[:, :2]
    corner_and_sides = np.concatenate([boxes[:, :2], sides], axis=1).tolist()
    columns = {"image_id": images + 1, "category_id": labels + 1, "area": sides[:, 0] * sides[:, 1], **more}
    table = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {**dict(zip(columns, row, strict=True)), "bbox": box} for row, box in zip(table, corner_and_sides, strict=True)
    ]


def _indexed(rows: list[dict[str, Any]], n_images: int, n_classes: int) -> Any:
    indexed = optional("pycocotools.coco", "coco").COCO()
    indexed.dataset = {
        "images": [{"id": number} for number in range(1, n_images + 1)],
        "categories": [{"id": number} for number in range(1, n_classes + 1)],
        # pycocotools takes an id of 0 for no match
        "annotations": [{**row, "id": number} for number, row in enumerate(rows, 1)],
    }
    indexed.createIndex()
    return indexed


def _mean_of_known(precision: NDArray[np.float64]) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else float("nan")


def plain_ids(dataset: Dataset) -> CocoIds:
    """Return ids for a data set that is no COCO file: its own image ids, and categories counted from 1."""
    return CocoIds({each.image_id: each.image_id for each in dataset}, range(1, len(dataset.class_names) + 1))


def coco_ids(path: Path, dataset: Dataset) -> CocoIds:
    """Return the ids in the COCO file at ``path``, from which the data set was read."""
    content = read_json(path)
    categories = {str(each["name"]).strip(): each["id"] for each in content["categories"]}
    by_file = {str(each["file_name"]).replace("\\", "/"): each["id"] for each in content["images"]}
    images = {}
    for each in dataset:
        parts = each.path.parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        images[each.image_id] = next((by_file[end] for end in ends if end in by_file), each.image_id)
    return CocoIds(images, [categories.get(name, number) for number, name in enumerate(dataset.class_names, 1)])


def to_coco_results(outcomes: Outcomes, ids: CocoIds) -> list[dict[str, Any]]:
    """Convert all detections to rows of a result file, class by class and best first."""
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
    """Read a result file into the detections of each class.

    An image whose name is digits alone, such as 000012, may also be given by its number. Detections of categories
    that are not among the classes are left out. Raises OSError for a file that cannot be read, and ValueError, with
    its name, for invalid content and detections of unknown images.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"{path}: not a COCO result file: it must be a list of detections")
    image_of: dict[Any, str] = {int(name): name for name in ids.images if name.isascii() and name.isdigit()}
    image_of |= {key: name for name, key in ids.images.items()}
    label_of = {category: label for label, category in enumerate(ids.categories)}
    image_ids: list[list[str]] = [[] for _ in class_names]
    rows: list[list[list[float]]] = [[] for _ in class_names]
    for number, each in enumerate(content):
        where = f"{path}: detection {number}"
        if not isinstance(each, dict) or not all(key in each for key in _KEYS):
            raise ValueError(f"{where}: must have the keys {', '.join(_KEYS)}")
        if not isinstance(each["category_id"], int) or each["category_id"] not in label_of:
            continue
        if not isinstance(each["image_id"], int | str) or each["image_id"] not in image_of:
            raise ValueError(f"{where}: there is no image {each['image_id']!r} among the {len(ids.images)} evaluated")
        label = label_of[each["category_id"]]
        image_ids[label].append(image_of[each["image_id"]])
        rows[label].append(_read_row(each, where))
    if content and not any(rows):
        raise ValueError(f"{path}: no detection is of a class to evaluate")
    found = {}
    for label, name in enumerate(class_names):
        numbers = np.array(rows[label], np.float64).reshape(-1, 5)
        boxes = np.concatenate([numbers[:, :2], numbers[:, :2] + numbers[:, 2:4]], axis=1)
        found[name] = ClassDetections(image_ids[label], boxes.astype(np.float32), numbers[:, 4])
    return found


def _read_row(detection: Mapping[str, Any], where: str) -> list[float]:
    """Return x, y, width, height and score."""
    box = detection["bbox"]
    values = [*box, detection["score"]] if isinstance(box, list) and len(box) == 4 else []
    if not values or not all(type(value) in (int, float) and abs(value) <= _MAX_NUMBER for value in values):
        raise ValueError(f"{where}: bbox must be the numbers x, y, width, height, and score a number")
    if box[2] < 0 or box[3] < 0:
        raise ValueError(f"{where}: bbox must have a width and height of at least 0, but has {box[2]} and {box[3]}")
    return [float(value) for value in values]
