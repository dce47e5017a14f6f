"""Train into the folder of a run: model, recipe, numbers, report, model card, and a summary with the next steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detector.config.detector import CalibrationConfig, Config
from detector.datasets.archive import is_archive
from detector.datasets.dataset import Dataset
from detector.datasets.inspection import count_classes
from detector.datasets.loading import DataSource
from detector.detections import Detections
from detector.evaluation.held_out import HeldOutResult, measure_held_out
from detector.features.cache import CacheWorkers, FeatureCache, fill_cache
from detector.model_file import MODEL_NAME
from detector.pipeline import Detector
from detector.runs.commands import evaluate_command
from detector.runs.folder import CONFIG, ENVIRONMENT, RunFolder
from detector.runs.forecast import TrainingSize, fine_tuning_plan, training_plan
from detector.runs.held_out_report import report_held_out
from detector.runs.learning_curve import LearningCurve, parts_of
from detector.runs.model_card import recipe_text, thresholds_of, write_card
from detector.runs.summary import precision_lines, summarize
from detector.runs.training_data import HeldOutSplit
from detector.runtime.environment import describe_environment
from detector.runtime.files import write_json, write_text
from detector.runtime.openvino import Runtime
from detector.runtime.progress import Progress, Task
from detector.training.adaptation import Adapted
from detector.training.background import Background
from detector.training.calibration import HeldOut
from detector.training.fine_tuning import Stored, fine_tuning_recipe
from detector.training.tiling import training_views
from detector.training.train import CROSS_VALIDATION
from detector.training.train_on import train_recorded

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A training of one recipe, and of parts of its images for a learning curve.

    source: of the data set. split: images to measure on, if any.
    cache: features of the recipe's network. workers: they fill the cache, if not this process.
    device, runtime: of models that are loaded.
    adapted: how the recipe was adapted to the data set, if it was.
    fine_tune: also fine-tune the backbone, and keep the better model.
    """

    config: Config
    dataset: Dataset
    source: DataSource
    split: HeldOutSplit | None
    cache: FeatureCache
    workers: CacheWorkers | None = None
    device: str = "cpu"
    runtime: Runtime | None = None
    adapted: Adapted | None = None
    fine_tune: bool = False

    @property
    def held_out(self) -> Dataset | None:
        """The images to measure on, if any."""
        return self.split and self.split.dataset

    def train(
        self,
        images: Dataset,
        progress: Progress,
        report: Callable[[Detector, HeldOut], None],
        stored: Stored,
    ) -> Detector:
        """Train on images, and cross-validate where they are the whole data set and the recipe says so.

        stored: as `train_and_compare` takes it.
        """
        config = self.config
        if images is not self.dataset:
            config = config.model_copy(update={"calibration": CalibrationConfig(enabled=False)})
        return train_recorded(
            config, images, self.cache, progress, self.workers, report, fine_tune=self.fine_tune, stored=stored
        )

    def load(self, path: Path) -> Detector:
        """Load a model of this run."""
        return Detector.load(path, self.device, self.runtime)

    def detect(self, detector: Detector, progress: Progress) -> tuple[Dataset, list[Detections]]:
        """Detect in the held-out images; return those that could be read, and the detections in each."""
        assert self.held_out is not None
        # end-to-end training changes the backbone: its features have a cache of their own, which no worker fills
        cache = detector.cache(self.cache.directory, self.cache.precomputed)
        workers = None if detector.config.end_to_end.enabled else self.workers
        views = fill_cache(cache, training_views(detector.config, self.held_out), progress, workers=workers)
        readable = [each for each in views if each.window is None]
        found = [detector.detect_cached(cache, each) for each in progress(readable, "detect")]
        return replace(self.held_out, annotations=readable), found

    def plan(self, parts: Sequence[Dataset]) -> list[Task]:
        """Return the loops ahead: those of the whole data set, then of parts of it."""
        held_out = tuple(self.held_out or ())
        views = [training_views(self.config, images) for images in (self.dataset, held_out, *parts)]
        missing = [
            sum(not self.cache.is_complete(each.image_id, window=each.window) for each in images)
            for images in views[:2]
        ]
        names = self.dataset.class_names
        n_mined = len(Background.of(self.cache.encoder, names).mined) if self.config.svm.background else 0
        sizes = [(len(views[0]), missing[0]), *((len(part), 0) for part in views[2:])]
        trainings = [TrainingSize(*size, len(names), n_mined) for size in sizes]
        if self.fine_tune:
            tuned = fine_tuning_recipe(self.config, "pooled")
            return training_plan(self.config, trainings, 0, 0) + fine_tuning_plan(tuned, trainings[0])
        return training_plan(self.config, trainings, missing[1], len(held_out))


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

    def report(detector: Detector, held_out: HeldOut) -> None:
        if run.held_out is None:
            images = held_out.dataset(run.dataset.class_names)
            # the SVMs that scored an image are not those of the model: they cannot be explained by it
            report_held_out(folder.path, detector, run.cache, images, held_out.detections, explained=False)

    def stored(name: str, trained: Callable[[], Detector]) -> Detector:
        return folder.model(f"{name}.safetensors", trained, run.load)

    def measured(name: str, images: Dataset) -> tuple[Detector, HeldOutResult | None]:
        detector = folder.model(name, lambda: run.train(images, progress, report, stored), run.load)
        if run.held_out is None:
            found = detector.record.get(CROSS_VALIDATION)
            return detector, found and HeldOutResult.from_json(found)
        readable, detections = run.detect(detector, progress)
        if name == MODEL_NAME:
            report_held_out(folder.path, detector, run.cache, readable, detections, explained=True)
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
    evaluated = run.split and evaluate_command(run.source, run.split.name, folder)
    write_card(folder, detector, counts, result, curve, evaluated)
    for line in [] if result is None else precision_lines(counts, result):
        _log.info("%s", line)
    # an archive is unpacked for this process alone
    example = None if is_archive(run.source.path) else (run.held_out or run.dataset)[0].path
    lines = summarize(folder, run.source, counts, result, run.adapted, detector.too_weak, example)
    return "\n".join([*lines, *([curve.answer()] if curve else [])])
