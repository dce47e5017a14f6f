"""COCO's average precision, at IoU of .50 to .95 and by the size of objects, as pycocotools computes it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.datasets.annotation import Annotation
from detector.evaluation.matching import gather_objects, image_indices
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
