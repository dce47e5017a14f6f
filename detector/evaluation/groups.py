"""Average precision of groups of objects: small or large, tall or wide, truncated by the border of the image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.outcomes import Mask, Outcomes
from detector.evaluation.voc import Metric, average_precisions, mean_of

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}
"""Areas in square pixels, including the lower end: those of COCO."""
ASPECTS = {"tall": (0.0, 2 / 3), "square": (2 / 3, 3 / 2), "wide": (3 / 2, np.inf)}
"""Width over height, including the lower end."""
_BORDER = 2.0  # pixels

Values = NDArray[np.float64]


class Group(NamedTuple):
    """Objects of one kind, (M,) bool, with their mAP and recall as fractions of 1; NaN without objects."""

    kind: str
    name: str
    mean_precision: float
    recall: float
    objects: Mask


def find_groups(outcomes: Outcomes, metric: Metric, image_sizes: NDArray[np.int64] | None = None) -> list[Group]:
    """Group by size, by aspect and, given image sizes (images, 2) as height and width, by the border.

    As in COCO, objects of other groups count neither way, nor do false detections of another size or aspect.
    The order and the matches are those of all detections.
    """
    of_objects, of_detections = _shape(outcomes.objects.boxes), _shape(outcomes.boxes)
    groups = []
    for kind, number, ranges in (("size", 0, SIZES), ("aspect", 1, ASPECTS)):
        for name, (low, high) in ranges.items():
            objects = (of_objects[number] >= low) & (of_objects[number] < high)
            detections = (of_detections[number] >= low) & (of_detections[number] < high)
            groups.append(_group(outcomes, metric, kind, name, objects, detections))
    if image_sizes is not None:
        objects = at_border(outcomes.objects.boxes, image_sizes[outcomes.objects.images])
        detections = at_border(outcomes.boxes, image_sizes[outcomes.images])
        groups.append(_group(outcomes, metric, "border", "at the border", objects, detections))
        groups.append(_group(outcomes, metric, "border", "inside", ~objects, ~detections))
    return groups


def at_border(boxes: Values, sizes: NDArray[np.int64]) -> Mask:
    """Find the (N, 4) boxes within two pixels of the border of their images, (N, 2) as height and width: (N,) bool."""
    distances = np.concatenate([boxes[:, :2], sizes[:, ::-1] - boxes[:, 2:]], axis=1)
    return np.asarray((distances <= _BORDER).any(axis=1))


def _shape(boxes: Values) -> tuple[Values, Values]:
    """Return areas, and width over height."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    return width * height, np.divide(width, height, out=np.full(len(boxes), np.inf), where=height > 0)


def _group(outcomes: Outcomes, metric: Metric, kind: str, name: str, own: Mask, detections: Mask) -> Group:
    objects = own & outcomes.wanted
    of_found = np.append(objects, False)[outcomes.nearest]
    counted = outcomes.counted & np.where(outcomes.true, of_found, detections)
    n_objects = np.bincount(outcomes.objects.labels[objects], minlength=len(outcomes.class_names))
    precisions = average_precisions(outcomes, metric, outcomes.true, counted, n_objects)
    recall = float((outcomes.found_by[objects] >= 0).mean()) if objects.any() else float("nan")
    return Group(kind, name, mean_of(precisions), recall, objects)
