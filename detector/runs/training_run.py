"""A training into a folder of its own: model, recipe, numbers, log, model card, a summary that says what to do next."""

from __future__ import annotations

import logging
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.cli.console import Telling, verbosity, write_json
from detector.cli.engines import CacheBuilding, where_of
from detector.cli.options import load_data
from detector.cli.outputs import check_folder, check_writable
from detector.config.detector import CalibrationConfig, Config, load_config
from detector.datasets.dataset import Annotation, Dataset
from detector.model_file import MODEL_NAME
from detector.results.files import ResultFolder
from detector.runs.dry_run import write_held_out
from detector.runs.folder import (
    CONFIG,
    ENVIRONMENT,
    RUNS,
    Run,
    cache_directory,
    choose_run,
    data_path,
    load_held_out,
    remembered,
    settings_of,
    started,
)
from detector.runs.model_card import Card, describe_environment, recipe_text, thresholds_of, write_card
from detector.runtime.files import write_text
from detector.runtime.optional import MissingPackageError
from detector.runtime.progress import Estimate, Progress, Stage

if TYPE_CHECKING:
    from detector.detections import Detections
    from detector.evaluation.held_out import HeldOutResult
    from detector.pipeline import Detector
    from detector.runs.learning_curve import LearningCurve

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Steps:
    """What a run calls.

    train: images to a detector with its record; calibrated, where the recipe says so, if they are the whole data.
    detect: a detector and images to those that could be read, and what is found in them.
    load: a model file to a detector.
    plan: the loops ahead, of trainings on data sets and of the held-out images.
    report: into the folder of a run, of what is found in held-out images.
    """

    train: Callable[[Dataset, bool, Progress], Detector]
    detect: Callable[[Detector, Dataset, Progress], tuple[Sequence[Annotation], Sequence[Detections]]]
    load: Callable[[Path], Detector]
    plan: Callable[[Sequence[Dataset], Dataset | None], list[Stage]]
    report: Callable[[Path, Dataset, Sequence[Detections]], None]


def train_in_folder(options: Namespace, build_steps: Callable[[Namespace, Config], Steps]) -> str:
    """Train by the options of `spp train` into a folder; the line that says what came of it."""
    folder = options.output or RUNS
    check_writable(folder, folder.absolute())  # before any work; the rest is known when the data are
    with remembered() as memory:
        config = load_config(options.config, options.weights, options.tuned, options.runtime)
        dataset = load_data(options)
        # parts of the images for a learning curve are learned from as the whole is
        config = config.for_images(len(dataset))
        held_out = load_held_out(options, dataset)
        if options.learning_curve and held_out is None:
            raise ValueError("--learning-curve needs held-out images: with --data, --hold-out 0.2 makes some")
        settings = settings_of(config, options, dataset, held_out)
        run = choose_run(options.output, data_path(options), settings, options.overwrite)
        if run.fresh:
            check_folder(options, run.folder, [each.path for each in dataset])
        steps = build_steps(options, config)  # what cannot be built is told before anything is written
        with started(run, memory) as note:
            if not run.fresh:
                _log.info("going on with the training in %s", run.folder)
            write_text(run.folder / CONFIG, recipe_text(config))
            write_json(run.folder / ENVIRONMENT, describe_environment())
            detector, result, curve = train_and_measure(run, steps, dataset, held_out, options.learning_curve)
            write_held_out(options, dataset, ResultFolder(run.folder / "lists", (), overwrite=True))
            summary = write_results(run, detector, dataset, result, curve)
            note(summary)
            run.finish()
    if not verbosity.quiet:
        print(summary, file=sys.stderr)
    record = detector.record
    model = run.folder / MODEL_NAME
    return f"{model}: {len(detector.class_names)} classes from {record['images']} images of {record['trained_on']}"


def train_and_measure(
    run: Run, steps: Steps, dataset: Dataset, held_out: Dataset | None, with_curve: bool
) -> tuple[Detector, HeldOutResult | None, LearningCurve | None]:
    """The detector of all images, what it reaches on those held out, and those of parts of the images where asked."""
    from detector.evaluation.held_out import measure_held_out
    from detector.runs.learning_curve import LearningCurve, parts_of

    def measured(name: str, images: Dataset) -> tuple[Detector, HeldOutResult | None]:
        whole = name == MODEL_NAME
        detector = run.model(name, lambda: steps.train(images, whole, progress), steps.load)
        if held_out is None:
            return detector, None
        annotations, found = steps.detect(detector, held_out, progress)
        readable = replace(held_out, annotations=annotations)
        if whole:
            steps.report(run.folder, readable, found)
        return detector, measure_held_out(found, readable)

    parts = parts_of(dataset) if with_curve else []
    with Telling(Estimate(steps.plan([dataset, *parts], held_out))) as progress:
        detector, result = measured(MODEL_NAME, dataset)
        of_parts = {len(part): measured(f"part-{len(part)}.safetensors", part)[1] for part in parts}
    points = [(n_images, each) for n_images, each in (*of_parts.items(), (len(dataset), result)) if each is not None]
    if len(points) > 1:
        return detector, result, LearningCurve(*zip(*points, strict=True))
    if with_curve:
        _log.warning("no learning curve: a part of these images would leave a class without an object")
    return detector, result, None


def write_results(
    run: Run,
    detector: Detector,
    dataset: Dataset,
    result: HeldOutResult | None,
    curve: LearningCurve | None,
) -> str:
    """Write numbers, thresholds, model card and report into the folder of a run; give the summary."""
    from detector.datasets.inspection import count_classes
    from detector.runs.summary import describe, next_steps, precision_lines, weakest

    counts = count_classes(dataset)
    metrics: dict[str, Any] = (
        {"metric": None, "mAP": None, "AP": {}, "images": 0} if result is None else result.to_json()
    )
    write_json(
        run.folder / "metrics.json",
        {**metrics, "trained": dict(detector.record), "learning_curve": curve and curve.to_json()},
    )
    write_json(run.folder / "thresholds.json", thresholds_of(detector))
    card = Card(run.folder, detector, counts, result, curve)
    write_card(card)
    name = weakest(counts, result)
    weak = describe(name, counts[name])
    lines = [f"{len(dataset)} images of {dataset.name}, trained in {detector.record['seconds']} s"]
    if result is None:
        lines += ["no image was held out: nothing says how good the model is", f"fewest objects: {weak}"]
    else:
        lines.append(f"average precision ({result.metric}) and its standard error on {result.images} held-out images:")
        lines += [f"  {line}" for line in precision_lines(counts, result)]
        lines.append(f"weakest: {weak}")
    lines += [curve.answer()] if curve else []
    lines += [f"next: {step}" for step in next_steps(counts, result)[:3]]
    return "\n".join([*lines, f"try it: spp detect photo.jpg --model {run.folder}"])


def build_steps(options: Namespace, config: Config) -> Steps:
    """The steps with the network and the cache of a recipe."""
    from detector.features.cache import fill_cache
    from detector.pipeline import Detector
    from detector.runs.forecast import Training, training_plan
    from detector.training.one_call import recorded
    from detector.training.train import train

    build = CacheBuilding(config, cache_directory(options), options.device, options.proposals)
    cache, where = build(), where_of(options, build)

    def missing(dataset: Dataset | None) -> int:
        return sum(not cache.is_complete(each.image_id) for each in dataset or ())

    def train_on(dataset: Dataset, whole: bool, progress: Progress) -> Detector:
        start = time.monotonic()
        recipe = config if whole else config.model_copy(update={"calibration": CalibrationConfig(enabled=False)})
        return recorded(train(recipe, dataset, dataset.class_names, cache, progress, where=where), dataset, start)

    def detect(
        detector: Detector, dataset: Dataset, progress: Progress
    ) -> tuple[Sequence[Annotation], Sequence[Detections]]:
        readable = fill_cache(cache, dataset, progress, where=where)
        return readable, [detector.detect_cached(cache, each) for each in progress(readable, "detect")]

    def plan(datasets: Sequence[Dataset], held_out: Dataset | None) -> list[Stage]:
        # the first data set holds the others
        trainings = [
            Training(len(each), 0 if number else missing(each), len(each.class_names))
            for number, each in enumerate(datasets)
        ]
        return training_plan(config, trainings, missing(held_out), len(held_out or ()))

    def load(path: Path) -> Detector:
        return Detector.load(path, options.device, options.weights, options.runtime)

    return Steps(train_on, detect, load, plan, report_on)


def report_on(folder: Path, images: Dataset, found: Sequence[Detections]) -> None:
    """Write the report of what was found in held-out images to report/ in the folder of a run.

    Where packages for it are missing, a line says so.
    """
    from detector.evaluation.outcomes import gather_outcomes
    from detector.evaluation.voc import by_class
    from detector.report.write import make_report

    outcomes = gather_outcomes(by_class([each.image_id for each in images], found), images, images.class_names)
    report = ResultFolder(folder / "report", (), overwrite=True)
    try:
        make_report(report, outcomes, images, circumstances={"model": str(folder)})
    except MissingPackageError as error:
        _log.info("no report: %s", error)
