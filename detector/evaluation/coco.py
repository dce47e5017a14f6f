"""COCO's result files: a JSON list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Annotation, Dataset
from detector.evaluation.matching import gather_objects, image_indices
from detector.evaluation.outcomes import Outcomes
from detector.evaluation.voc import ClassDetections
from detector.runtime.optional import optional

_NUMBERS = ("mAP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


@dataclass(frozen=True, eq=False)
class CocoResult:
    """Average precisions as fractions of 1, at most 100 detections an image.

    AP: one a class, the mean over IoU of .50, .55 .. .95; NaN for a class without objects that count.
    numbers: mAP, AP50, AP75 at these IoU, AP_small, AP_medium, AP_large of objects below 32 x 32 pixels, below 96 x 96,
        and the rest; NaN where there are none.
    images: number of images evaluated, those without objects included.
    """

    AP: dict[str, float]
    numbers: dict[str, float]
    images: int
    metric: str = "coco"

    @property
    def mAP(self) -> float:  # noqa: N802 - the name that everybody knows
        """Mean over IoU and the classes that have objects; NaN where none has."""
        return self.numbers["mAP"]

    def to_json(self) -> dict[str, object]:
        """``{"metric", "mAP", "AP50", .., "AP": {class: value}, "images"}`` for ``json.dump``, None in place of NaN."""
        numbers = {name: None if np.isnan(value) else value for name, value in self.numbers.items()}
        precisions = {name: None if np.isnan(value) else value for name, value in self.AP.items()}
        return {"metric": self.metric, **numbers, "AP": precisions, "images": self.images}


def evaluate_coco(
    detections: Mapping[str, ClassDetections], ground_truth: Iterable[Annotation], class_names: Sequence[str]
) -> CocoResult:
    """COCO's numbers, with the arguments and errors of `detector.evaluation.voc.evaluate_voc`.

    Difficult objects are COCO's crowds: any number of detections inside them counts neither way. The size of an object
    is that of its box, where COCO has that of its outline.
    """
    annotations = list(ground_truth)
    image_index = {each.image_id: number for number, each in enumerate(annotations)}
    if len(image_index) < len(annotations):
        raise ValueError("ground_truth must hold each image once")
    if detections and not set(detections) & set(class_names):
        raise ValueError(f"none of the detected classes ({', '.join(detections)}) is among those to evaluate")
    objects = gather_objects(annotations, len(class_names))
    truth = _rows(objects.images, objects.labels, objects.boxes, iscrowd=objects.difficult.astype(int))
    found = []
    for label, name in enumerate(class_names):
        if name in detections:
            each = detections[name]
            images = image_indices(each.image_ids, image_index, name)
            found += _rows(images, np.full(len(images), label), each.boxes.astype(float), score=each.scores)
    evaluator_of = optional("pycocotools.cocoeval", "coco").COCOeval
    with redirect_stdout(io.StringIO()):  # it tells its progress
        parts = (_indexed(rows, len(annotations), len(class_names)) for rows in (truth, found))
        evaluator = evaluator_of(*parts, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision = evaluator.eval["precision"][..., 0, -1]  # of all sizes: (IoU, recalls, K)
    means = [_mean_of_known(precision[:, :, label]) for label in range(len(class_names))]
    numbers = [float("nan") if value < 0 else float(value) for value in evaluator.stats[:6]]
    return CocoResult(
        dict(zip(class_names, means, strict=True)), dict(zip(_NUMBERS, numbers, strict=True)), len(annotations)
    )


def _rows(
    images: NDArray[np.int64], labels: NDArray[np.int64], boxes: NDArray[np.float64], **more: NDArray[Any]
) -> list[dict[str, Any]]:
    """Objects or detections as COCO has them; images and classes are counted from 1."""
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
        # an id of 0 would be taken for no match
        "annotations": [{**row, "id": number} for number, row in enumerate(rows, 1)],
    }
    indexed.createIndex()
    return indexed


def _mean_of_known(precision: NDArray[np.float64]) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else float("nan")


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
    """Of a data set that `detector.datasets.readers.coco.load_coco` has read from ``path``: the ids of that file."""
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
