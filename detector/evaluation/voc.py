"""Average precision by the rules of the PASCAL VOC devkit (VOCevaldet.m), and the metric of a data set.

    result = evaluate_voc(detections, dataset, dataset.class_names)

Results of other programs are scored alike: `detector.evaluation.voc_results` reads their files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.readers.voc import VOC_CLASSES
from detector.detections import Detections
from detector.evaluation.outcomes import ClassDetections, Mask, Outcomes, Rows, gather_outcomes

Metric = Literal["voc07", "area"]
METRIC_NAMES = {
    "voc07": "VOC2007's 11 points",
    "area": "mAP50, area under the curve",
    "coco": "COCO's mean over IoU .50 to .95",
}
"""Metrics in words."""


def default_metric(data: Iterable[Annotation]) -> Metric:
    """Return the metric of numbers that others publish on such data.

    VOC2007's eleven points for VOC2007, and the area under the curve for everything else. On a data set of one's own,
    eleven points are coarse: one detection of 34 objects gives 9.1, where the area is 2.9.
    """
    if not isinstance(data, Dataset) or not data.name.lower().startswith("voc2007"):
        return "area"
    return "voc07" if set(data.class_names) <= set(VOC_CLASSES) else "area"


@dataclass(frozen=True, eq=False)
class Result:
    """Average precisions as fractions of 1.

    metric: "voc07", "area" or "coco".
    AP: by class; NaN for a class without objects that count (none, or difficult ones only).
    images: number of images, including those without objects.
    mAP: mean over the classes that have objects; NaN where none has.
    more: further numbers of the metric, by name.
    """

    metric: str
    AP: dict[str, float]
    images: int
    mAP: float  # noqa: N815 - the name that everybody knows
    more: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return ``{"metric", "mAP", .., "AP": {class: value}, "images"}`` for ``json.dump``, None instead of NaN."""
        return {
            "metric": self.metric,
            "mAP": finite(self.mAP),
            **{name: finite(value) for name, value in self.more.items()},
            "AP": {name: finite(value) for name, value in self.AP.items()},
            "images": self.images,
        }


def evaluate_voc(
    detections: Sequence[Detections] | Mapping[str, ClassDetections],
    ground_truth: Iterable[Annotation],
    class_names: Sequence[str],
    metric: Metric | None = None,
    min_iou: float = 0.5,
) -> Result:
    """Return the average precision of each class over all images, and their mean.

    metric: "voc07", the mean of the best precision at recalls 0, .1 .. 1; or "area" under the whole curve; None for
        the `default_metric` of the ground truth.
    A class with objects and no detection has AP 0. The other arguments, the matching rule and the errors are those of
    `detector.evaluation.outcomes.gather_outcomes`.
    """
    metric = default_metric(ground_truth) if metric is None else metric
    return voc_result(gather_outcomes(detections, ground_truth, class_names, min_iou), metric)


def voc_result(outcomes: Outcomes, metric: Metric) -> Result:
    """Return the average precisions of outcomes, and their mean."""
    precisions = average_precisions(outcomes, metric)
    by_name = dict(zip(outcomes.class_names, precisions.tolist(), strict=True))
    return Result(metric, by_name, len(outcomes.image_ids), mean_of(precisions))


def average_precisions(
    outcomes: Outcomes,
    metric: Metric,
    true: Mask | None = None,
    counted: Mask | None = None,
    n_objects: Rows | None = None,
) -> NDArray[np.float64]:
    """Return the average precision of each class, (K,) float64; NaN for classes without objects.

    true, counted: (N,) bool, and n_objects: (K,) int64, instead of those of the outcomes.
    """
    true = outcomes.true if true is None else true
    counted = outcomes.counted if counted is None else counted
    n_objects = outcomes.n_wanted() if n_objects is None else n_objects
    rows = [outcomes.of_class(label) for label in range(len(outcomes.class_names))]
    found = [average_precision(true[r][counted[r]], n, metric) for r, n in zip(rows, n_objects.tolist(), strict=True)]
    return np.array(found, np.float64)


def mean_of(precisions: NDArray[np.float64]) -> float:
    """Return mAP: the mean over the classes that have objects; NaN where none has."""
    known = precisions[~np.isnan(precisions)]
    return float(known.mean()) if known.size else float("nan")


def unmeasured(outcomes: Outcomes) -> dict[str, str]:
    """Return why classes have no average precision, by name: none of their objects is to be found."""
    n_all = np.bincount(outcomes.objects.labels, minlength=len(outcomes.class_names))
    reasons = {}
    for name, n_wanted, n_objects in zip(outcomes.class_names, outcomes.n_wanted(), n_all.tolist(), strict=True):
        if not n_wanted:
            reasons[name] = f"all {n_objects} objects are difficult or crowds" if n_objects else "no object"
    return reasons


def average_precision(hits: Mask, n_objects: int, metric: Metric) -> float:
    """Return the average precision of one class as a fraction of 1; NaN without objects, 0 without detections.

    hits: ``(M,)`` bool, True for each true one of the detections that count, best first.
    n_objects: number of objects to be found.
    metric: "voc07" as in VOCevaldet.m of 2007, "area" as from 2010 on.
    """
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, but got {metric!r}")
    if n_objects == 0:
        return float("nan")
    hits = np.asarray(hits, np.bool_)
    n_hits = np.cumsum(hits)
    precision = n_hits / np.arange(1, len(hits) + 1)
    # the best precision at this recall or a higher one; 0 for recalls that are never reached
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if metric == "voc07":
        # in integers: k / 10 as a float lies above recalls such as 3/10 and would lose the point
        first = np.searchsorted(10 * n_hits, np.arange(11) * n_objects)
        return float(best[first].mean())
    return float(best[:-1][hits].sum() / n_objects)


def finite(value: float) -> float | None:
    """Return a number for JSON: None instead of NaN and infinity."""
    return float(value) if np.isfinite(value) else None
