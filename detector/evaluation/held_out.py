"""What a detector reaches on images that it did not learn from, with the error of that number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Dataset
from detector.detections import Detections
from detector.evaluation.bootstrap import resample_precisions, standard_errors
from detector.evaluation.outcomes import gather_outcomes, mean_of
from detector.evaluation.voc import Metric, by_class

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HeldOutResult:
    """Average precisions of K classes on held-out images.

    data: what the images are called; images: how many there are.
    objects: (K,) int64, objects to be found.
    AP, errors: (K,) float64, fractions of 1, and their standard errors, from the bootstrap over images; NaN where a
        class has no object, or too few images to tell.
    resampled: (B,) float64, mAP of each resample: of equal images, those of two detectors may be compared in pairs.
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

    def to_json(self) -> dict[str, Any]:
        """Values by name for ``json.dump``, as `VocResult.to_json` and more; None in place of NaN."""

        def by_name(values: Values) -> dict[str, float | None]:
            return dict(zip(self.class_names, map(_none_for_nan, values.tolist()), strict=True))

        return {
            "metric": self.metric,
            "mAP": _none_for_nan(self.mAP),
            "AP": by_name(self.AP),
            "images": self.images,
            "data": self.data,
            "objects": dict(zip(self.class_names, self.objects.tolist(), strict=True)),
            "standard_error": {"mAP": _none_for_nan(self.mAP_error), "AP": by_name(self.errors)},
        }


def measure_held_out(
    detections: Sequence[Detections], dataset: Dataset, metric: Metric = "voc07", resamples: int = 1000
) -> HeldOutResult:
    """Average precisions of the detections in each image of a data set."""
    found = by_class([each.image_id for each in dataset], detections)
    outcomes = gather_outcomes(found, dataset, dataset.class_names)
    precisions = outcomes.average_precisions(metric)
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
    )


def _none_for_nan(value: float) -> float | None:
    return None if np.isnan(value) else value
