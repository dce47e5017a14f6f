"""Mean average precision by VOC's rules on a VOC list or a COCO file.

python tools/evaluate_voc.py (--voc ROOT --split val | --coco JSON) [--model M | --detections DIR] [--report DIR]
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.console import Parser, printable, write_json
from detector.cli.engines import add_engine_options, engine_of
from detector.cli.options import add_data_options, add_model_options, data_source, load_data, split_name
from detector.cli.outputs import cache_folder, check_writable, output_folder, output_numbers, result_folder
from detector.cli.report import ids_of, known_coverage, prepare_report, report_folder
from detector.cli.thresholds import add_threshold_options, check_thresholds, thresholds
from detector.datasets.dataset import Dataset
from detector.evaluation.calibration import probability_bins
from detector.evaluation.coco import CocoResult, evaluate_coco
from detector.evaluation.image_matching import sum_matches
from detector.evaluation.outcomes import gather_outcomes
from detector.evaluation.voc import ClassDetections, VocResult, by_class, evaluate_voc
from detector.evaluation.voc_results import check_image_ids, file_names, read_detections, write_detections
from detector.runs.evaluate_images import Evaluated, Evaluating, detect_all
from detector.runs.evaluation_state import state_of

if TYPE_CHECKING:
    from detector.ensemble import Ensemble


def parser() -> Parser:
    parser = Parser(description="Average precision a class and its mean, as the VOC devkit or COCO counts.")
    add_data_options(parser)
    add_model_options(parser)
    add_threshold_options(parser, "that of the recipe")
    parser.add_argument(
        "--detections", type=Path, metavar="DIR", help="score comp4_det_<split or JSON>_<class>.txt files"
    )
    parser.add_argument(
        "--metric",
        choices=("voc07", "area", "coco"),
        default="voc07",
        help="VOC's 11 points (default) or area, or COCO's",
    )
    parser.add_argument("--json", type=output_numbers, metavar="FILE", help="write the numbers to FILE; - is stdout")
    parser.add_argument("--save-detections", type=output_folder, metavar="DIR", help="write comp4_det files to DIR")
    parser.add_argument(
        "--report", type=output_folder, metavar="DIR", help="write a report to look at, and its numbers, to DIR"
    )
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="of --report: the metrics.json of another run")
    parser.add_argument(
        "--cache", type=cache_folder, metavar="DIR", help="keep feature maps and proposals, as in training"
    )
    parser.add_argument("--record", action="store_true", help="note the result in the file of --model")
    add_engine_options(parser)
    return parser


def main() -> int:
    options = parser().parse_args()
    check_options(options)
    detector: Ensemble | None = None
    if options.detections is None:
        from detector.ensemble import load_ensemble

        detector = load_ensemble(options.model, options.device, options.weights, options.mirror, options.runtime)
    # a model need not find all its classes in the data, and result files are scored without the images
    known = detector.class_names if detector else None
    checked = {"open_images": detector is not None, "need_objects": options.classes is not None}
    dataset = load_data(options, known, **checked, default_split="val")
    folder = report_folder(options, "report", dataset) if options.report is not None else None
    baseline = prepare_report(options, dataset) if folder is not None else None
    split = split_name(options)
    evaluated = Evaluated()
    if detector is None:
        detections = read_detections(
            options.detections, split, dataset.class_names, [each.image_id for each in dataset]
        )
        result = result_of(detections, dataset, options.metric)
    else:
        evaluated = detect(detector, dataset, options, split)
        detections = by_class([each.image_id for each in dataset], evaluated.found) if evaluated.found else {}
        if options.metric == "coco":
            result = evaluate_coco(detections, dataset, dataset.class_names)
        else:
            result = sum_matches(evaluated.matches, dataset.annotations, dataset.class_names, options.metric)
    numbers = result.to_json()
    chances = None
    if detector is not None and detector.calibration is not None:
        chances = probability_bins(evaluated.found, dataset, dataset.class_names)
        error = chances.calibration_error
        numbers["calibration_error"] = None if isnan(error) else error
    if str(options.json) != "-":
        print_numbers(result, numbers, options.metric, dataset)
    if options.record and detector is not None:
        record(detector, result, dataset, options)
    if options.json is not None:
        write_json(options.json, numbers)
    if folder is not None:
        from detector.report.write import make_report

        make_report(
            folder,
            gather_outcomes(detections, dataset, dataset.class_names),
            dataset,
            options.metric,
            ids=ids_of(options, dataset),
            coverage=evaluated.coverage or known_coverage(options.proposals, dataset),
            circumstances=made_by(detector, evaluated, options),
            baseline=baseline,
            explain=detector.explain if detector is not None else None,
            probabilities=chances,
        )
    return 0


def check_options(options: Namespace) -> None:
    """Raise ValueError for options that do not go together, before a model is loaded."""
    data_source(options)
    if options.record and len(options.model or []) != 1:
        raise ValueError("--record needs one --model, the file to note the result in")
    if options.record:
        check_writable(options.model[0], options.model[0].resolve().parent)
    if options.record and not options.mirror:
        raise ValueError("--record notes what the model itself reaches, and goes without --no-mirror")
    if options.model and options.detections:
        raise ValueError("--detections are scored without a --model")
    check_thresholds(options)
    limited = any(each is not None for each in (options.min_score, options.min_probability, options.precision))
    if limited and (options.detections or options.record):
        raise ValueError("thresholds go without --detections, which are scored as they are, and without --record")
    if options.baseline is not None and options.report is None:
        raise ValueError("--baseline goes with --report, which tells the difference")


def print_numbers(result: VocResult | CocoResult, numbers: dict[str, object], metric: str, dataset: Dataset) -> None:
    """A line a class, their mean, and what else there is."""
    for name, value in result.AP.items():
        print(f"{printable(name):<12} {100 * value:5.1f}")
    print(f"{'mAP':<12} {100 * result.mAP:5.1f}   ({metric}, {result.images} images of {dataset.name})")
    for name in ("AP50", "AP75", "AP_small", "AP_medium", "AP_large"):
        if isinstance(number := numbers.get(name), float):
            print(f"{name:<12} {100 * number:5.1f}")
    if isinstance(error := numbers.get("calibration_error"), float):
        print(f"expected calibration error {error:.3f}")


def record(detector: Ensemble, result: VocResult | CocoResult, dataset: Dataset, options: Namespace) -> None:
    """Note the result in the model's file."""
    note = {
        "mAP": result.mAP,
        "metric": result.metric,
        "evaluated_on": dataset.name,
        "evaluated_images": len(dataset),
    }
    (only,), (path,) = detector.detectors, options.model
    replace(only, record={**only.record, **note}).save(path)


def made_by(detector: Ensemble | None, evaluated: Evaluated, options: Namespace) -> dict[str, str]:
    """Where the detections of a report are from."""
    if detector is None:
        return {"detections": str(options.detections)}
    spent = ", ".join(f"{name} {seconds / evaluated.n_timed:.3f}" for name, seconds in evaluated.times.items())
    models = ", ".join(map(str, options.model or ["the one that comes with the package"]))
    return {"model": models, "seconds an image": spent}


def result_of(detections: Mapping[str, ClassDetections], dataset: Dataset, metric: str) -> VocResult | CocoResult:
    """The numbers of detections that are there already."""
    if metric == "coco":
        return evaluate_coco(detections, dataset, dataset.class_names)
    return evaluate_voc(detections, dataset, dataset.class_names, "voc07" if metric == "voc07" else "area")


def detect(detector: Ensemble, dataset: Dataset, options: Namespace, split: str) -> Evaluated:
    """What is found in every image and reaches the thresholds, kept in result files where the options say so."""
    image_ids = [annotation.image_id for annotation in dataset]
    if options.save_detections is not None:
        check_image_ids(image_ids)
    if not set(detector.class_names) & set(dataset.class_names):
        raise ValueError(f"none of the model's classes ({', '.join(detector.class_names)}) is among those to evaluate")
    if options.save_detections is not None:
        files = result_folder(options, "save_detections", [each.path for each in dataset])
        files.check(names := file_names(split, detector.class_names))
    least = thresholds(options, detector)
    # boxes that were computed elsewhere need no watching
    watched = options.report is not None and options.proposals is None
    state = state_of(options, dataset, {"least": None if least is None else least.tolist(), "watched": watched})
    needs_boxes = bool(options.save_detections or options.report or options.metric == "coco" or detector.calibration)
    evaluating = Evaluating(options, least, dataset.class_names, watched)
    evaluated = detect_all(evaluating, detector, dataset, engine_of(options), state, needs_boxes)
    if options.save_detections is not None:
        for name in names:
            files.fixed(name)
        write_detections(options.save_detections, split, image_ids, evaluated.found)
    state.remove()
    return evaluated
