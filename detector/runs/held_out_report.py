"""Write the report of a training: detections in images that what scored them was not trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from detector.datasets.dataset import Dataset
from detector.detections import Detections
from detector.evaluation.calibration import probability_bins
from detector.evaluation.coverage import image_coverage, join_coverage
from detector.evaluation.outcomes import gather_outcomes
from detector.explanation.explainer import explain
from detector.features.cache import FeatureCache
from detector.pipeline import Detector
from detector.results.files import ResultFolder
from detector.runtime.optional import MissingPackageError
from detector.scoring import cached_proposals

_log = logging.getLogger(__name__)


def report_held_out(
    folder: Path,
    detector: Detector,
    cache: FeatureCache,
    images: Dataset,
    found: Sequence[Detections],
    explained: bool,
) -> None:
    """Write the report of the detections in each image of a data set to report/ in the ``folder`` of a run.

    It holds the coverage by the proposals in ``cache``, the calibration of ``detector`` and, if ``explained``, the
    attributions of its scores. Logs a line where packages for it are missing.
    """
    from detector.report.write import make_report

    outcomes = gather_outcomes(found, images, images.class_names)
    coverage = [image_coverage(cached_proposals(detector, cache, each), each.boxes) for each in images]
    probabilities = bins = None
    if (calibration := detector.calibration) is not None:
        probabilities = calibration.probabilities(outcomes.scores.astype(np.float32), outcomes.labels)
        bins = probability_bins([calibration(each) for each in found], images, images.class_names)
    try:
        make_report(
            ResultFolder(folder / "report", (), overwrite=True),
            outcomes,
            images,
            coverage=join_coverage(coverage) if coverage else None,
            circumstances={"model": str(folder)},
            explain=partial(explain, detector) if explained else None,
            probabilities=probabilities,
            probability_bins=bins,
        )
    except MissingPackageError as error:
        _log.info("no report: %s", error)
