"""Compute all numbers of a run, each once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.bootstrap import resample_precisions, standard_errors
from detector.evaluation.calibration import ScoreBins, bin_scores
from detector.evaluation.coco import CocoIds, evaluate_coco
from detector.evaluation.coverage import Coverage, MissedReason, missed_reasons
from detector.evaluation.error_kinds import ErrorKinds, LabelIssues, find_error_kinds, find_label_issues, lost_precision
from detector.evaluation.groups import Group, find_groups
from detector.evaluation.outcomes import Outcomes
from detector.evaluation.thresholds import Confusion, ThresholdCurve, find_confusion, threshold_curve
from detector.evaluation.voc import Metric, average_precisions, finite, mean_of
from detector.images.files import image_size

METRICS: tuple[Metric, ...] = ("voc07", "area")


@dataclass(frozen=True, eq=False)
class Run:
    """Detections in a data set, and their origin.

    outcomes: the detections and objects. metric: of the headline. data: name of the data set.
    paths: image files, which may be missing. ids: of images and classes in COCO files.
    coverage: of the proposals, if known.
    circumstances: names and texts for the last section, such as "command" and "date".
    probabilities: of the detections, (N,) float32, for a calibrated model.
    probability_bins: the detections binned by probability, where these are not the scores.
    """

    outcomes: Outcomes
    metric: Metric
    data: str
    paths: tuple[Path, ...]
    ids: CocoIds
    coverage: Coverage | None = None
    circumstances: Mapping[str, str] = field(default_factory=dict)
    probabilities: NDArray[np.float32] | None = None
    probability_bins: ScoreBins | None = None


@dataclass(frozen=True, eq=False)
class Analysis:
    """All numbers of a run.

    sizes: (images, 2) int64, height and width, 0 for files that cannot be read.
    precisions, errors: by metric, (K,) average precision of each class and its standard error.
    mean_errors: by metric, the standard error of mAP.
    coco_AP: COCO's average precision over IoU .50 to .95.
    """

    run: Run
    sizes: NDArray[np.int64]
    precisions: dict[Metric, NDArray[np.float64]]
    errors: dict[Metric, NDArray[np.float64]]
    mean_errors: dict[Metric, float]
    coco_AP: float  # noqa: N815
    kinds: ErrorKinds
    lost: dict[str, float]
    reasons: tuple[MissedReason, ...]
    curves: list[ThresholdCurve]
    all_classes: ThresholdCurve
    confusion: Confusion
    groups: list[Group]
    bins: ScoreBins
    label_issues: LabelIssues


def analyze(run: Run, resamples: int = 1000) -> Analysis:
    """Compute all numbers; the confusion matrix is at the threshold of the best F1 of all classes together."""
    outcomes = run.outcomes
    resampled = {metric: standard_errors(resample_precisions(outcomes, metric, resamples)) for metric in METRICS}
    kinds = find_error_kinds(outcomes)
    reasons = () if run.coverage is None else missed_reasons(outcomes, kinds, run.coverage, run.metric)
    all_classes = threshold_curve(outcomes)
    sizes = sizes_of(run.paths)
    return Analysis(
        run,
        sizes,
        {metric: average_precisions(outcomes, metric) for metric in METRICS},
        {metric: errors for metric, (errors, _) in resampled.items()},
        {metric: mean for metric, (_, mean) in resampled.items()},
        evaluate_coco(outcomes, run.ids).mAP,
        kinds,
        lost_precision(outcomes, kinds, run.metric),
        reasons,
        [threshold_curve(outcomes, label) for label in range(len(outcomes.class_names))],
        all_classes,
        find_confusion(outcomes, all_classes.best.threshold),
        find_groups(outcomes, run.metric, sizes if sizes.all() else None),
        bin_scores(outcomes),
        find_label_issues(outcomes, kinds),
    )


def sizes_of(paths: tuple[Path, ...]) -> NDArray[np.int64]:
    """Read the height and width of each image, (N, 2) int64, from the headers; 0 for a file that cannot be read."""
    sizes = np.zeros((len(paths), 2), np.int64)
    for row, path in enumerate(paths):
        try:
            sizes[row] = image_size(path)
        except (OSError, ValueError):
            continue
    return sizes


def to_metrics(analysis: Analysis) -> dict[str, Any]:
    """Return all numbers as JSON-able values: fractions of 1, None for unknown ones."""
    run, outcomes = analysis.run, analysis.run.outcomes
    precisions = analysis.precisions[run.metric]
    names, n_wanted = outcomes.class_names, outcomes.n_wanted()
    return {
        "metric": run.metric,
        "mAP": finite(mean_of(precisions)),
        "mAP_error": finite(analysis.mean_errors[run.metric]),
        "COCO_AP": finite(analysis.coco_AP),
        "AP": {name: finite(value) for name, value in zip(names, precisions, strict=True)},
        "images": len(outcomes.image_ids),
        "images_without_objects": len(outcomes.image_ids) - len(np.unique(outcomes.objects.images)),
        "objects": int(n_wanted.sum()),
        "difficult_objects": int(outcomes.objects.difficult.sum()),
        "detections": len(outcomes.scores),
        "data": run.data,
        "threshold": finite(analysis.confusion.threshold),
        "classes": {name: _class_metrics(analysis, label) for label, name in enumerate(names)},
        "errors": {
            kind: {"count": count, "mAP_lost": analysis.lost[kind]} for kind, count in analysis.kinds.counts().items()
        },
        "missed_because": {
            reason.name: {"count": int(reason.objects.sum()), "mAP_lost": reason.lost} for reason in analysis.reasons
        },
        "confusion": {"class_names": [*names, "background"], "matrix": analysis.confusion.matrix.tolist()},
        "groups": [
            {
                "kind": group.kind,
                "name": group.name,
                "objects": int(group.objects.sum()),
                "mAP": finite(group.mean_precision),
                "recall": finite(group.recall),
            }
            for group in analysis.groups
        ],
        "circumstances": dict(run.circumstances),
    }


def _class_metrics(analysis: Analysis, label: int) -> dict[str, Any]:
    point = analysis.curves[label].best
    return {
        **{f"AP_{metric}": finite(analysis.precisions[metric][label]) for metric in METRICS},
        **{f"AP_{metric}_error": finite(analysis.errors[metric][label]) for metric in METRICS},
        "objects": point.n_objects,
        "threshold": finite(point.threshold),
        "F1": point.f1,
        "precision": point.precision,
        "recall": point.recall,
        "true": point.n_true,
        "false": point.n_false,
        "missed": point.n_missed,
    }
