"""Measure a detector on held-out images, with standard errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Dataset
from detector.detections import Detections
from detector.evaluation.bootstrap import resample_precisions, standard_errors
from detector.evaluation.coco import evaluate_coco
from detector.evaluation.outcomes import gather_outcomes
from detector.evaluation.voc import Metric, average_precisions, default_metric, finite, mean_of, unmeasured

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HeldOutResult:
    """Average precisions of K classes on held-out images.

    data: name of the data set. images: number of images.
    objects: (K,) int64, number of objects to be found.
    AP, errors: (K,) float64, fractions of 1, and their standard errors by the bootstrap over images; NaN for a class
        without objects, or with too few images.
    resampled: (B,) float64, mAP of each resample; on equal images, two detectors can be compared in pairs.
    unmeasured: why classes have no average precision, by name.
    coco_AP: COCO's average precision over IoU .50 to .95; None by VOC2007's rules.
    """

    data: str
    images: int
    metric: Metric
    class_names: tuple[str, ...]
    objects: NDArray[np.int64]
    AP: Values
    errors: Values
    mAP: float  # noqa: N815 - the name that everybody knows
    mAP_error: float  # noqa: N815
    resampled: Values
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    coco_AP: float | None = None  # noqa: N815

    def to_json(self) -> dict[str, Any]:
        """Return ``{"metric", "mAP", "AP", "images", ..}`` for ``json.dump``, None instead of NaN."""

        def by_name(values: Values) -> dict[str, float | None]:
            return dict(zip(self.class_names, map(finite, values.tolist()), strict=True))

        return {
            "metric": self.metric,
            "mAP": finite(self.mAP),
            **({} if self.coco_AP is None else {"COCO_AP": finite(self.coco_AP)}),
            "AP": by_name(self.AP),
            "images": self.images,
            "data": self.data,
            "objects": dict(zip(self.class_names, self.objects.tolist(), strict=True)),
            "standard_error": {"mAP": finite(self.mAP_error), "AP": by_name(self.errors)},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> HeldOutResult:
        """Read the value of `to_json`; there are no resamples then. Raises KeyError for a missing number."""
        names = tuple(content["AP"])

        def values(by_name: Mapping[str, float | None]) -> Values:
            return np.array([_number(by_name[name]) for name in names])

        errors = content["standard_error"]
        return cls(
            data=content["data"],
            images=content["images"],
            metric=content["metric"],
            class_names=names,
            objects=np.array([content["objects"][name] for name in names], np.int64),
            AP=values(content["AP"]),
            errors=values(errors["AP"]),
            mAP=_number(content["mAP"]),
            mAP_error=_number(errors["mAP"]),
            resampled=np.empty(0),
            coco_AP=_number(content["COCO_AP"]) if "COCO_AP" in content else None,
        )


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def measure_held_out(
    detections: Sequence[Detections], dataset: Dataset, metric: Metric | None = None, resamples: int = 1000
) -> HeldOutResult:
    """Measure the detections in each image of a data set, by default by its `default_metric`."""
    metric = default_metric(dataset) if metric is None else metric
    outcomes = gather_outcomes(detections, dataset, dataset.class_names)
    precisions = average_precisions(outcomes, metric)
    resampled = resample_precisions(outcomes, metric, resamples)
    errors, mean_error = standard_errors(resampled)
    return HeldOutResult(
        dataset.name,
        len(dataset),
        metric,
        tuple(dataset.class_names),
        outcomes.n_wanted(),
        precisions,
        errors,
        mean_of(precisions),
        mean_error,
        np.array([mean_of(row) for row in resampled]),
        unmeasured(outcomes),
        None if metric == "voc07" else evaluate_coco(outcomes).mAP,
    )
