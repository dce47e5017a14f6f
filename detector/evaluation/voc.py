"""Average precision by the rules of the PASCAL VOC devkit (VOCevaldet.m), on arrays alone.

    result = evaluate_voc(by_class(image_ids, detections), dataset, dataset.class_names, metric="voc07")

``read_detections`` of `detector.evaluation.voc_results` gives the same form as ``by_class``, so that anybody's
results are scored alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.evaluation.matching import gather_objects, image_indices, match

Metric = Literal["voc07", "area"]


@dataclass(frozen=True, eq=False)
class ClassDetections:
    """All detections of one class, over all images, in any order.

    image_ids: the image of each of the N detections.
    boxes: ``(N, 4)`` float32 ``x1 y1 x2 y2``, pixels, 0-based, half-open.
    scores: ``(N,)`` float64, since other programs' files may tell scores apart that float32 does not.
    """

    image_ids: Sequence[str]
    boxes: Boxes
    scores: NDArray[np.float64]

    def __post_init__(self) -> None:
        boxes, scores = as_boxes(self.boxes), np.asarray(self.scores, np.float64)
        if scores.shape != (len(boxes),) or len(self.image_ids) != len(boxes):
            raise ValueError(
                f"image_ids, boxes and scores must be as many, but got {len(self.image_ids)}, {len(boxes)} "
                f"and {scores.shape}"
            )
        if np.isnan(scores).any():
            raise ValueError("scores must not be NaN")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", scores)


class Curve(NamedTuple):
    """Recall and precision, ``(M,)`` float64 each, after each detection that counts, best first."""

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class VocResult:
    """Average precisions as fractions of 1.

    AP: one a class; NaN for a class without objects that count (none at all, or difficult ones only).
    metric: "voc07" or "area".
    images: number of images evaluated, those without objects included.
    curves: recall and precision of each class that has objects.
    """

    AP: dict[str, float]
    metric: Metric
    images: int
    curves: dict[str, Curve]

    @property
    def mAP(self) -> float:  # noqa: N802 - the name that everybody knows
        """Mean over the classes that have objects; NaN where none has."""
        values = [value for value in self.AP.values() if not np.isnan(value)]
        return float(np.mean(values)) if values else float("nan")

    def to_json(self) -> dict[str, object]:
        """``{"metric", "mAP", "AP": {class: value}, "images"}`` for ``json.dump``, None in place of NaN."""
        return {
            "metric": self.metric,
            "mAP": _none_for_nan(self.mAP),
            "AP": {name: _none_for_nan(value) for name, value in self.AP.items()},
            "images": self.images,
        }


def by_class(image_ids: Sequence[str], detections: Sequence[Detections]) -> dict[str, ClassDetections]:
    """Regroup the Detections of each image by class name. Raises ValueError where the lengths differ."""
    if len(image_ids) != len(detections):
        raise ValueError(f"detections must be one for each of {len(image_ids)} images, but got {len(detections)}")
    names = list(dict.fromkeys(name for each in detections for name in each.class_names))
    groups: dict[str, list[tuple[str, Boxes, NDArray[np.float32]]]] = {name: [] for name in names}
    for image_id, each in zip(image_ids, detections, strict=True):
        for label in np.unique(each.labels):
            rows = each.labels == label
            groups[each.class_names[label]].append((image_id, each.boxes[rows], each.scores[rows]))
    return {
        name: ClassDetections(
            [image_id for image_id, boxes, _ in group for _ in boxes],
            np.concatenate([np.zeros((0, 4), np.float32), *(boxes for _, boxes, _ in group)]),
            np.concatenate([np.zeros(0), *(scores for _, _, scores in group)]),
        )
        for name, group in groups.items()
    }


def evaluate_voc(
    detections: Mapping[str, ClassDetections],
    ground_truth: Iterable[Annotation],
    class_names: Sequence[str],
    metric: Metric = "voc07",
    min_iou: float = 0.5,
) -> VocResult:
    """Average precision of each class over all images.

    detections: by class name; a class that is missing has none, names outside class_names are not evaluated.
    ground_truth: one annotation for each image, labels as indices into class_names; such as a data set.
    metric: "voc07", the mean of the best precision at recalls 0, .1 .. 1; or "area" under the whole curve.

    A detection, in order of falling scores (equal ones stay in order), belongs to the object of its class and
    image that it overlaps most, difficult and found ones included. Below min_iou it is false; else it does
    not count when the object is difficult, is true when it is the object's first, and false when it is not.
    Classes without objects are left out of the mean; a class with objects and no detection has AP 0.
    Raises ValueError for detections of images that have no annotation, an image with two, labels out of range,
    and detections of which no class is among class_names.
    """
    if not 0 < min_iou <= 1:
        raise ValueError(f"min_iou must be above 0 and at most 1, but got {min_iou}")
    if detections and not set(detections) & set(class_names):
        raise ValueError(f"none of the detected classes ({', '.join(detections)}) is among those to evaluate")
    annotations = list(ground_truth)
    image_index = {each.image_id: index for index, each in enumerate(annotations)}
    if len(image_index) < len(annotations):
        raise ValueError("ground_truth must hold each image once")
    objects = gather_objects(annotations, len(class_names))
    hits = []
    for label, name in enumerate(class_names):
        of_class = objects.of_class(label)
        if name not in detections:
            hits.append(np.zeros(0, np.bool_))
            continue
        found = detections[name]
        images = image_indices(found.image_ids, image_index, name)
        order = np.argsort(-found.scores, kind="stable")
        hits.append(match(images[order], found.boxes[order].astype(np.float64), of_class, min_iou))
    counts = np.bincount(objects.labels[~objects.difficult], minlength=len(class_names))
    return voc_result(hits, counts.tolist(), class_names, metric, len(annotations))


def voc_result(
    hits: Sequence[NDArray[np.bool_]],
    n_objects: Sequence[int],
    class_names: Sequence[str],
    metric: Metric,
    n_images: int,
) -> VocResult:
    """The result of detections that count: for each class whether they are true, ``(M,)`` bool, best first."""
    precisions: dict[str, float] = {}
    curves: dict[str, Curve] = {}
    for name, of_class, count in zip(class_names, hits, n_objects, strict=True):
        precisions[name] = average_precision(of_class, count, metric)
        if count:
            n_hits = np.cumsum(of_class)
            curves[name] = Curve(n_hits / count, n_hits / np.arange(1, len(of_class) + 1))
    return VocResult(precisions, metric, n_images, curves)


def average_precision(hits: NDArray[np.bool_], n_objects: int, metric: Metric = "voc07") -> float:
    """Average precision of one class as a fraction of 1; NaN without objects, 0 without detections.

    hits: ``(M,)`` bool, whether each detection that counts is true, best first. n_objects: those to be found.
    metric: "voc07" as in VOCevaldet.m of 2007, "area" as from 2010 on.
    """
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, but got {metric!r}")
    if n_objects == 0:
        return float("nan")
    hits = np.asarray(hits, np.bool_)
    n_hits = np.cumsum(hits)
    precision = n_hits / np.arange(1, len(hits) + 1)
    # The best precision at this recall or a higher one; 0 stands for recalls that are never reached.
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if metric == "voc07":
        # In integers: k / 10 as a float lies above recalls such as 3/10 and would lose the point.
        first = np.searchsorted(10 * n_hits, np.arange(11) * n_objects)
        return float(best[first].mean())
    return float(best[:-1][hits].sum() / n_objects)


def _none_for_nan(value: float) -> float | None:
    return None if np.isnan(value) else value
