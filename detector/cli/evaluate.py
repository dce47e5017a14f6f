"""Measure average precision on labeled images, by the rules of VOC or COCO.

spp evaluate (--data PATH | --voc ROOT --split val | --coco JSON) [--model M | --detections PATH] [--report DIR]
"""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detector.cli.console import Parser, print_error, printable, progress, write_json
from detector.cli.data_options import add_data_options, data_source, load_data, split_name
from detector.cli.options import (
    add_engine_options,
    add_model_options,
    add_threshold_options,
    add_tiles_option,
    check_thresholds,
    engine_of,
    load_model,
    model_digests,
    thresholds,
)
from detector.cli.outputs import cache_folder, check_writable, output_folder, output_numbers, result_folder
from detector.cli.report import (
    add_metric_option,
    coco_ids_of,
    coverage_of_boxes,
    prepare_report,
    read_run,
    report_folder,
)
from detector.datasets.dataset import Dataset
from detector.evaluation.calibration import probability_bins
from detector.evaluation.coco import CocoIds, evaluate_coco
from detector.evaluation.outcomes import Outcomes, gather_outcomes
from detector.evaluation.voc import METRIC_NAMES, Result, default_metric, unmeasured, voc_result
from detector.evaluation.voc_results import check_image_ids, file_names, write_detections
from detector.runs.evaluate_images import Evaluated, EvaluatorFactory, detect_all
from detector.runs.evaluation_state import State, open_state
from detector.runtime.files import digest

if TYPE_CHECKING:
    from detector.ensemble import Ensemble

_log = logging.getLogger(__name__)


def parser() -> Parser:
    parser = Parser(description="Measure the average precision of each class, and mAP, by the rules of VOC or COCO.")
    add_data_options(parser)
    add_model_options(parser)
    add_threshold_options(parser, "that of the recipe")
    add_tiles_option(parser)
    parser.add_argument(
        "--detections",
        type=Path,
        metavar="PATH",
        help="score a folder of files comp4_det_<split or JSON>_<class>.txt, or a COCO result file, not a model",
    )
    add_metric_option(parser, ("voc07", "area", "coco"))
    parser.add_argument("--json", type=output_numbers, metavar="FILE", help="write the numbers to FILE; - is stdout")
    parser.add_argument("--save-detections", type=output_folder, metavar="DIR", help="write comp4_det files to DIR")
    parser.add_argument("--report", type=output_folder, metavar="DIR", help="write an HTML report to DIR")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="with --report: metrics.json of another run to compare with"
    )
    parser.add_argument(
        "--cache", type=cache_folder, metavar="DIR", help="store feature maps and proposals in DIR, as in training"
    )
    parser.add_argument("--record", action="store_true", help="store the result in the file of --model")
    add_engine_options(parser)
    return parser


def main() -> int:
    options = parser().parse_args()
    check_options(options)
    detector: Ensemble | None = None
    if options.detections is None:
        detector = load_model(options.model, options.device, options.runtime, options.tiles)
    # a model need not find all its classes in the data, and result files are scored without the images
    known = detector.class_names if detector else None
    checked = {"open_images": detector is not None, "need_objects": options.classes is not None}
    dataset = load_data(options, known, **checked, default_split="val")
    options.metric = options.metric or default_metric(dataset)
    ids = coco_ids_of(options, dataset)
    folder = report_folder(options, "report", dataset) if options.report is not None else None
    baseline = prepare_report(options, dataset) if folder is not None else None
    split = split_name(options)
    evaluated, state = Evaluated(), None
    if detector is None:
        outcomes = gather_outcomes(read_run(options.detections, split, ids, dataset), dataset, dataset.class_names)
    else:
        evaluated, state = detect(detector, dataset, options, split)
        outcomes = evaluated.outcomes
    result = evaluate(outcomes, options.metric, ids)
    for reason, names in by_reason(unmeasured(outcomes)).items():
        _log.warning("no average precision of %s: %s", ", ".join(names), reason)
    numbers = result.to_json()
    bins = None
    if detector is not None and detector.calibration is not None:
        bins = probability_bins(evaluated.detections, dataset, dataset.class_names)
        error = bins.calibration_error
        numbers["calibration_error"] = None if isnan(error) else error
    if str(options.json) != "-":
        print_numbers(result, numbers, dataset)
    if options.record and detector is not None:
        record(detector, result, dataset, options.model[0])
    if options.json is not None:
        write_json(options.json, numbers)
    if folder is not None:
        from detector.explanation.explainer import explain
        from detector.report.write import make_report

        make_report(
            folder,
            outcomes,
            dataset,
            options.metric,
            ids=ids,
            coverage=evaluated.coverage or coverage_of_boxes(options.proposals, dataset),
            circumstances=circumstances(detector, evaluated, options),
            baseline=baseline,
            explain=None if detector is None else partial(explain, detector),
            probabilities=None if detector is None else probabilities_of(outcomes, detector),
            probability_bins=bins,
        )
    if state is not None:
        state.remove()  # last: what fails on the way can be repeated without detecting again
    return 0


def check_options(options: Namespace) -> None:
    """Raise ValueError for options that do not go together, before a model is loaded."""
    data_source(options)
    if options.record and len(options.model or []) != 1:
        raise ValueError("--record needs exactly one --model, in whose file to store the result")
    if options.record:
        check_writable(options.model[0], options.model[0].resolve().parent)
    if options.model and options.detections:
        raise ValueError("--detections and --model do not go together: give one of them")
    check_thresholds(options)
    limited = any(each is not None for each in (options.min_score, options.min_probability, options.precision))
    if limited and (options.detections or options.record):
        raise ValueError("thresholds do not go with --detections, which are scored as they are, nor with --record")
    if options.tiles is not None and options.detections:
        raise ValueError("--tiles does not go with --detections, which are scored as they are")
    if options.tiles is not None and options.proposals:
        raise ValueError("--tiles does not go with --proposals, boxes of whole images")
    if options.baseline is not None and options.report is None:
        raise ValueError("--baseline needs --report, which shows the difference")


def evaluate(outcomes: Outcomes, metric: str, ids: CocoIds) -> Result:
    """Return the result by a metric; COCO's average precision is beside the area."""
    if metric == "coco":
        return evaluate_coco(outcomes, ids)
    result = voc_result(outcomes, "voc07" if metric == "voc07" else "area")
    return replace(result, more={"COCO_AP": evaluate_coco(outcomes, ids).mAP}) if metric == "area" else result


def probabilities_of(outcomes: Outcomes, detector: Ensemble) -> NDArray[np.float32] | None:
    """Return the probabilities ``(N,)`` of detections, whose classes are a model's; None without a calibration."""
    if detector.calibration is None:
        return None
    own = np.array([[*detector.class_names, name].index(name) for name in outcomes.class_names])
    return detector.calibration.probabilities(outcomes.scores.astype(np.float32), own[outcomes.labels])


def by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Group names of classes by the reason why they have no number."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    return groups


def print_numbers(result: Result, numbers: Mapping[str, object], dataset: Dataset) -> None:
    """Print a line per class, their mean, and the further numbers of the metric; a dash for unknown numbers."""
    rule = f"{result.metric}: {METRIC_NAMES[result.metric]}; {result.images} images of {dataset.name}"
    for name, value in result.AP.items():
        print(f"{printable(name):<12} {_percent(value)}")
    print(f"{'mAP':<12} {_percent(result.mAP)}   ({rule})")
    for name, value in result.more.items():
        print(f"{name.replace('_', ' '):<12} {_percent(value)}")
    if isinstance(error := numbers.get("calibration_error"), float):
        print(f"expected calibration error {error:.3f}")


def _percent(value: float) -> str:
    return "    -" if isnan(value) else f"{100 * value:5.1f}"


def record(detector: Ensemble, result: Result, dataset: Dataset, path: Path) -> None:
    """Store the result in the model's file."""
    note = {
        "mAP": result.mAP,
        "metric": result.metric,
        "evaluated_on": dataset.name,
        "evaluated_images": len(dataset),
    }
    (only,) = detector.models
    replace(only, record={**only.record, **note}).save(path)


def circumstances(detector: Ensemble | None, evaluated: Evaluated, options: Namespace) -> dict[str, str]:
    """Return the source of the detections, for the report."""
    if detector is None:
        return {"detections": str(options.detections)}
    times = ", ".join(f"{name} {seconds / evaluated.n_timed:.3f}" for name, seconds in evaluated.times.items())
    models = ", ".join(map(str, options.model or ["the model of the package"]))
    return {"model": models, "seconds per image": times}


def detect(detector: Ensemble, dataset: Dataset, options: Namespace, split: str) -> tuple[Evaluated, State]:
    """Detect in every image with the thresholds of the options, and save the detections where they ask for it.

    Returns also the files from which a repeated evaluation takes the results.
    """
    image_ids = [annotation.image_id for annotation in dataset]
    if options.save_detections is not None:
        check_image_ids(image_ids)
    if not set(detector.class_names) & set(dataset.class_names):
        raise ValueError(f"none of the model's classes ({', '.join(detector.class_names)}) is among those to evaluate")
    if options.save_detections is not None:
        files = result_folder(options, "save_detections", [each.path for each in dataset])
        files.check(names := file_names(split, detector.class_names))
    factory = EvaluatorFactory(
        partial(load_model, options.model, options.device, options.runtime, options.tiles),
        dataset.class_names,
        thresholds(options, detector),
        # the coverage of boxes that were computed elsewhere needs no detection
        coverage=options.report is not None and options.proposals is None,
        cache=options.cache,
        proposals=options.proposals,
    )
    state = open_state(
        dataset,
        {
            "models": model_digests(options),
            "proposals": None if options.proposals is None else digest([options.proposals.read_bytes()]),
            "device": options.device,
            "runtime": options.runtime,
            "tiles": options.tiles,
            "thresholds": None if factory.thresholds is None else factory.thresholds.tolist(),
            "coverage": factory.coverage,
        },
    )
    evaluated = detect_all(
        factory,
        detector,
        dataset,
        engine_of(options),
        state,
        progress=progress,
        on_failure=lambda message: print_error(ValueError(message)),
    )
    if options.save_detections is not None:
        for name in names:
            files.fixed(name)
        write_detections(options.save_detections, split, image_ids, evaluated.detections)
    return evaluated, state
