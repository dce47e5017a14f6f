"""How good a taught detector is: cross-validation of a round, image by image, and what it says about the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detector.datasets.dataset import Annotation
from detector.evaluation.voc import finite
from detector.features.cache import FeatureCache
from detector.heads.calibration import Calibration
from detector.pipeline import Detector
from detector.runs.label_doubts import Doubt, find_doubts
from detector.training.calibration import HeldOut, fit_calibration, removable_rows
from detector.training.svm.training import TrainedSVMs

MAX_IMAGES = 40
"""Images to measure on; more would cost more than they say."""
MAX_DOUBTS = 20
_PARTS = 5
_MIN_IMAGES = 4  # of fewer, resampling shows no spread


@dataclass(frozen=True)
class Quality:
    """Result of a cross-validation.

    detector: that was measured. report: JSON-able, with mAP, its error, AP by class, confusions and doubts.
    calibration: of the scores; None where no object was found.
    held_out: the images and their detections; None where no image can be held out.
    """

    detector: Detector
    report: dict[str, Any]
    calibration: Calibration | None
    held_out: HeldOut | None


def cross_validate_stepwise(detector: Detector, trained: TrainedSVMs, cache: FeatureCache) -> Iterator[Quality | None]:
    """Yield None after each step, and at last the quality; its report is empty where no image can be held out.

    Each image is scored by SVMs that were fitted without its part; all of these are fitted in the first step.
    """
    images = trained.images
    parts = [np.arange(first, len(images.annotations), _PARTS) for first in range(min(_PARTS, len(images)))]
    fitted = [(rows, trained.without(part)) for part in parts if len(rows := removable_rows(images, part))]
    yield None
    held_out: list[Annotation] = []
    found = []
    taken = 0
    for rows, svms in fitted if len(images) > 1 else ():
        scoring = replace(detector, heads=replace(detector.heads, scorer=svms, calibration=None))
        for row in rows.tolist()[: -(-MAX_IMAGES // _PARTS)]:
            held_out.append(images.annotations[row])
            found.append(scoring.detect_cached(cache, held_out[-1]))
            taken += 1
            yield None
    if not taken:
        yield Quality(detector, {}, None, None)
        return
    result = HeldOut(held_out, found)
    measured = result.measure(detector.class_names)
    calibration = _calibration(result, detector.class_names)
    thresholds = np.zeros(len(detector.class_names), np.float32) if calibration is None else calibration.best_f1
    calibrated = found if calibration is None else [calibration(each) for each in found]
    doubts = find_doubts(result.dataset(detector.class_names), calibrated, thresholds)
    report = {
        "images": len(images.annotations),
        "measured": taken,
        "AP50": finite(measured.mAP),
        "error": finite(measured.mAP_error) if taken >= _MIN_IMAGES else None,
        "classes": measured.to_json()["AP"],
        "confusions": _confusions(doubts),
        "doubts": [_doubt_record(each, held_out) for each in doubts[:MAX_DOUBTS]],
    }
    yield Quality(detector, report, calibration, result)


def _calibration(result: HeldOut, class_names: Sequence[str]) -> Calibration | None:
    try:
        return fit_calibration(result.detections, result.annotations, class_names)
    except ValueError:  # no object was found, as in the first rounds
        return None


def _confusions(doubts: Sequence[Doubt]) -> list[dict[str, Any]]:
    """Return how often each class was taken for another one, most frequent first."""
    pairs = Counter(each.captions for each in doubts if each.kind == "other class")
    return [
        {"label": own, "taken_for": other.removesuffix("?"), "count": count}
        for (own, other), count in pairs.most_common(5)
    ]


def _doubt_record(doubt: Doubt, images: Sequence[Annotation]) -> dict[str, Any]:
    box = [round(float(corner), 1) for corner in doubt.boxes[0]]
    return {"image_id": images[doubt.image].image_id, "kind": doubt.kind, "line": doubt.line, "box": box}
