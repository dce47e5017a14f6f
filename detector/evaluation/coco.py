"""COCO's metric, computed by pycocotools."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.coco_results import CocoIds
from detector.evaluation.outcomes import Outcomes
from detector.evaluation.voc import Result
from detector.runtime.optional import optional

_NUMBERS = ("AP50", "AP75", "AP_small", "AP_medium", "AP_large")


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
