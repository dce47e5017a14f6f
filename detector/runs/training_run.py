"""Train into the folder of a run: model, recipe, numbers, report, model card, and a summary with the next steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detector.config.detector import CalibrationConfig, Config
from detector.datasets.dataset import Dataset
from detector.datasets.inspection import count_classes
from detector.datasets.loading import DataSource
from detector.detections import Detections
from detector.evaluation.held_out import HeldOutResult, measure_held_out
from detector.evaluation.outcomes import gather_outcomes
from detector.evaluation.proposal_recall import ProposalRecall
from detector.features.cache import CacheWorkers, FeatureCache, fill_cache
from detector.model_file import MODEL_NAME
from detector.pipeline import Detector
from detector.results.files import ResultFolder
from detector.runs.folder import CONFIG, ENVIRONMENT, RunFolder
from detector.runs.forecast import TrainingSize, training_plan
from detector.runs.learning_curve import LearningCurve, parts_of
from detector.runs.model_card import recipe_text, thresholds_of, write_card
from detector.runs.summary import precision_lines, summarize
from detector.runtime.environment import describe_environment
from detector.runtime.files import write_json, write_text
from detector.runtime.openvino import Runtime
from detector.runtime.optional import MissingPackageError
from detector.runtime.progress import Progress, Task
from detector.training.calibration import HeldOut
from detector.training.train import CROSS_VALIDATION, train, with_record

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A training of one recipe, and of parts of its images for a learning curve.

    source: of the data set. held_out: images to measure on, if any.
    cache: features of the recipe's network. workers: they fill the cache, if not this process.
    device, runtime: of models that are loaded.
    recall: of the proposals, if measured.
    """

    config: Config
    dataset: Dataset
    source: DataSource
    held_out: Dataset | None
    cache: FeatureCache
    workers: CacheWorkers | None = None
    device: str = "cpu"
    runtime: Runtime | None = None
    recall: ProposalRecall | None = None

    def train(self, images: Dataset, progress: Progress, report: Callable[[HeldOut], None]) -> Detector:
        """Train on images, and cross-validate where they are the whole data set and the recipe says so."""
        config, start = self.config, time.monotonic()
        if images is not self.dataset:
            config = config.model_copy(update={"calibration": CalibrationConfig(enabled=False)})
        detector = train(config, images, images.class_names, self.cache, progress, workers=self.workers, report=report)
        return with_record(detector, images, start)

    def load(self, path: Path) -> Detector:
        """Load a model of this run."""
        return Detector.load(path, self.device, self.runtime)

    def detect(self, detector: Detector, progress: Progress) -> tuple[Dataset, list[Detections]]:
        """Detect in the held-out images; return those that could be read, and the detections in each."""
        assert self.held_out is not None
        # end-to-end training changes the backbone: its features have a cache of their own, which no worker fills
        cache = detector.cache(self.cache.directory, self.cache.precomputed)
        workers = None if self.config.end_to_end.enabled else self.workers
        readable = fill_cache(cache, self.held_out, progress, workers=workers)
        found = [detector.detect_cached(cache, each) for each in progress(readable, "detect")]
        return replace(self.held_out, annotations=readable), found

    def plan(self, parts: Sequence[Dataset]) -> list[Task]:
        """Return the loops ahead: those of the whole data set, then of parts of it."""
        held_out = tuple(self.held_out or ())
        missing = [
            sum(not self.cache.is_complete(each.image_id) for each in images) for images in (self.dataset, held_out)
        ]
        sizes = [(len(self.dataset), missing[0]), *((len(part), 0) for part in parts)]
        n_classes = len(self.dataset.class_names)
        return training_plan(self.config, [TrainingSize(*size, n_classes) for size in sizes], missing[1], len(held_out))


def train_in_folder(
    run: TrainingRun,
    folder: RunFolder,
    progress_bars: Callable[[Sequence[Task]], AbstractContextManager[Progress]],
    learning_curve: bool = False,
) -> tuple[Detector, str]:
    """Train, measure and write all results into an open folder; return the detector and a summary in lines.

    What the folder holds of an interrupted run is not done again. progress_bars: shows the progress of a plan.
    """
    write_text(folder.path / CONFIG, recipe_text(run.config))
    write_json(folder.path / ENVIRONMENT, describe_environment())
    detector, result, curve = train_and_measure(run, folder, progress_bars, learning_curve)
    return detector, write_results(run, folder.path, detector, result, curve)


def train_and_measure(
    run: TrainingRun,
    folder: RunFolder,
    progress_bars: Callable[[Sequence[Task]], AbstractContextManager[Progress]],
    learning_curve: bool,
) -> tuple[Detector, HeldOutResult | None, LearningCurve | None]:
    """Return the detector trained on all images, its result, and the learning curve if asked for.

    The result is that on held-out images or, without any, of the cross-validation; None for neither.
    """

    def report(held_out: HeldOut) -> None:
        if run.held_out is None:
            report_held_out(folder.path, held_out.dataset(run.dataset.class_names), held_out.detections)

    def measured(name: str, images: Dataset) -> tuple[Detector, HeldOutResult | None]:
        detector = folder.model(name, lambda: run.train(images, progress, report), run.load)
        if run.held_out is None:
            found = detector.record.get(CROSS_VALIDATION)
            return detector, found and HeldOutResult.from_json(found)
        readable, detections = run.detect(detector, progress)
        if name == MODEL_NAME:
            report_held_out(folder.path, readable, detections)
        return detector, measure_held_out(detections, readable)

    dataset = run.dataset
    parts = parts_of(dataset) if learning_curve else []
    with progress_bars(run.plan(parts)) as progress:
        detector, result = measured(MODEL_NAME, dataset)
        of_parts = {len(part): measured(f"part-{len(part)}.safetensors", part)[1] for part in parts}
    points = [(n_images, each) for n_images, each in (*of_parts.items(), (len(dataset), result)) if each is not None]
    if len(points) > 1:
        return detector, result, LearningCurve(*zip(*points, strict=True))
    if learning_curve:
        _log.warning("no learning curve: a part of these images would leave a class without an object")
    return detector, result, None


def report_held_out(folder: Path, images: Dataset, found: Sequence[Detections]) -> None:
    """Write the report of detections in held-out images to report/; log a line where packages for it are missing."""
    from detector.report.write import make_report

    outcomes = gather_outcomes(found, images, images.class_names)
    try:
        make_report(
            ResultFolder(folder / "report", (), overwrite=True), outcomes, images, circumstances={"model": str(folder)}
        )
    except MissingPackageError as error:
        _log.info("no report: %s", error)


def write_results(
    run: TrainingRun, folder: Path, detector: Detector, result: HeldOutResult | None, curve: LearningCurve | None
) -> str:
    """Write numbers, thresholds and model card; return the summary."""
    counts = count_classes(run.dataset)
    metrics: dict[str, Any] = (
        {"metric": None, "mAP": None, "AP": {}, "images": 0} if result is None else result.to_json()
    )
    learning = {"trained": dict(detector.record), "learning_curve": curve and curve.to_json()}
    write_json(folder / "metrics.json", {**metrics, **learning})
    write_json(folder / "thresholds.json", thresholds_of(detector))
    write_card(folder, detector, counts, result, curve)
    for line in [] if result is None else precision_lines(counts, result):
        _log.info("%s", line)
    lines = summarize(folder, run.source, counts, result, run.recall)
    return "\n".join([*lines, *([curve.answer()] if curve else [])])
