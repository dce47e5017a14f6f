"""Fit probabilities and thresholds of a trained model to labeled images that it was not trained on.

spp calibrate MODEL (--data PATH | --voc ROOT --split val | --coco JSON) --output MODEL
"""

from __future__ import annotations

from math import isinf, isnan
from pathlib import Path

import numpy as np

from detector.cli.console import Parser, print_error, progress
from detector.cli.data_options import add_data_options, data_source, load_data
from detector.cli.options import add_computing_options
from detector.cli.outputs import OutputFile, cache_folder, is_model
from detector.detections import percent
from detector.evaluation.calibration import probability_bins
from detector.runs.evaluate_images import EvaluatorFactory, detect_all
from detector.thresholds import default_thresholds


def parser() -> Parser:
    parser = Parser(
        description="Fit probabilities and thresholds of a model to labeled images that it was not trained on."
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="model file")
    add_data_options(parser)
    output = OutputFile(is_model, updates="model")
    parser.add_argument("--output", type=output, required=True, metavar="MODEL", help="model file to write")
    parser.add_argument(
        "--cache", type=cache_folder, metavar="DIR", help="store feature maps and proposals in DIR, as in training"
    )
    add_computing_options(parser)
    return parser


def main() -> int:
    options = parser().parse_args()
    data_source(options)  # wrong options are reported before a model is loaded
    from detector.ensemble import Ensemble
    from detector.pipeline import Detector
    from detector.training.calibration import fit_calibration, with_calibration

    detector = Detector.load(options.model, options.device, options.runtime)
    detector = with_calibration(detector, None)
    if options.classes:
        raise ValueError("a calibration needs all classes of the model: leave out --classes")
    dataset = load_data(options, detector.class_names, need_objects=False, default_split="val")
    model = Ensemble([detector])
    factory = EvaluatorFactory(lambda: model, dataset.class_names, cache=options.cache, proposals=options.proposals)
    found = detect_all(
        factory, model, dataset, progress=progress, on_failure=lambda line: print_error(ValueError(line))
    ).detections
    calibration = fit_calibration(found, dataset, dataset.class_names)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with_calibration(detector, calibration).save(options.output)
    shown = default_thresholds(calibration)
    chances = calibration.probabilities(shown, np.arange(len(shown)))
    for name, score, chance in zip(detector.class_names, shown.tolist(), chances.tolist(), strict=True):
        what = "too weak to be shown" if isinf(score) else f"shown from {percent(chance)}, a score of {score:.2f}"
        print(f"{name:<12} {what}")
    bins = probability_bins([calibration(each) for each in found], dataset, dataset.class_names)
    error = bins.calibration_error
    source = f"{len(dataset)} images of {dataset.name}, to which it was fitted"
    print(f"{options.output}: expected calibration error {'-' if isnan(error) else f'{error:.3f}'} on {source}")
    return 0
