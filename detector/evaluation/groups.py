"""Average precision of objects of one kind: small or large, tall or wide, cut off by the border of the image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.outcomes import Mask, Outcomes, mean_of, precisions_of
from detector.evaluation.voc import Metric

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}
"""Areas in square pixels, the lower end included: those of COCO."""
ASPECTS = {"tall": (0.0, 2 / 3), "square": (2 / 3, 3 / 2), "wide": (3 / 2, np.inf)}
"""Width over height, the lower end included."""
_NEAR_BORDER = 2.0

Values = NDArray[np.float64]


class Group(NamedTuple):
    """Objects of one kind: mAP and recall as fractions of 1 (NaN without objects), and which they are, (M,) bool."""

    kind: str
    name: str
    mean_precision: float
    recall: float
    objects: Mask


def find_groups(outcomes: Outcomes, metric: Metric, image_sizes: NDArray[np.int64] | None = None) -> list[Group]:
    """Groups by size, by aspect and, with image sizes (images, 2) as height and width, by the border.

    As COCO does it, objects of other groups count neither way, nor do false detections of another size or aspect.
    The order and the matches are those of all detections.
    """
    areas, aspects = _shape(outcomes.objects.boxes), _shape(outcomes.boxes)
    groups = []
    for kind, number, ranges in (("size", 0, SIZES), ("aspect", 1, ASPECTS)):
        for name, (low, high) in ranges.items():
            own = (areas[number] >= low) & (areas[number] < high)
            alike = (aspects[number] >= low) & (aspects[number] < high)
            groups.append(_group(outcomes, metric, kind, name, own, alike))
    if image_sizes is not None:
        cut = at_border(outcomes.objects.boxes, image_sizes[outcomes.objects.images])
        cut_detections = at_border(outcomes.boxes, image_sizes[outcomes.images])
        groups.append(_group(outcomes, metric, "border", "at the border", cut, cut_detections))
        groups.append(_group(outcomes, metric, "border", "inside", ~cut, ~cut_detections))
    return groups


def at_border(boxes: Values, sizes: NDArray[np.int64]) -> Mask:
    """Whether (N, 4) boxes come within two pixels of the border of their images, (N, 2) as height and width."""
    distances = np.concatenate([boxes[:, :2], sizes[:, ::-1] - boxes[:, 2:]], axis=1)
    return np.asarray((distances <= _NEAR_BORDER).any(axis=1))


def _shape(boxes: Values) -> tuple[Values, Values]:
    """Areas, and width over height."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    return width * height, np.divide(width, height, out=np.full(len(boxes), np.inf), where=height > 0)


def _group(outcomes: Outcomes, metric: Metric, kind: str, name: str, own: Mask, alike: Mask) -> Group:
    objects = own & outcomes.wanted
    of_found = np.append(objects, False)[outcomes.nearest]
    counted = outcomes.counted & np.where(outcomes.true, of_found, alike)
    labels = outcomes.objects.labels[objects]
    n_objects = np.bincount(labels, minlength=len(outcomes.class_names))
    precisions = precisions_of(outcomes, outcomes.true & of_found, counted, n_objects, metric)
    recall = float((outcomes.found_by[objects] >= 0).mean()) if objects.any() else float("nan")
    return Group(kind, name, mean_of(precisions), recall, objects)
