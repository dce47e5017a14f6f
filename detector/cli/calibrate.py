"""Give a trained model probabilities and thresholds, from labeled images that it did not learn from.

spp calibrate MODEL (--voc ROOT --split val | --coco JSON) --output MODEL
"""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from pathlib import Path

from detector.cli.console import Parser
from detector.cli.options import add_computing_options, add_data_options, data_source, load_data
from detector.cli.outputs import OutputFile, cache_folder, is_model
from detector.evaluation.calibration import calibration_error
from detector.runs.evaluate_images import Evaluating, detect_all


def parser() -> Parser:
    parser = Parser(
        description="Learn the probabilities and thresholds of a trained model from images that it did not learn from."
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="the model file")
    add_data_options(parser)
    output = OutputFile(is_model, updates="model")
    parser.add_argument("--output", type=output, required=True, metavar="MODEL", help="the model file to write")
    parser.add_argument(
        "--cache", type=cache_folder, metavar="DIR", help="keep feature maps and proposals, as in training"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="where the backbone's weights are, if not there")
    add_computing_options(parser)
    return parser


def main() -> int:
    options = parser().parse_args()
    data_source(options)  # options that do not fit are told before a model is loaded
    from detector.ensemble import Ensemble
    from detector.pipeline import Detector
    from detector.training.calibration import fit_calibration

    detector = replace(Detector.load(options.model, options.device, options.weights, options.runtime), calibration=None)
    if options.classes:
        raise ValueError("a calibration is of all classes of a model: leave out --classes")
    dataset = load_data(options, detector.class_names, need_objects=False, default_split="val")
    evaluating = Evaluating(options, None, dataset.class_names)
    found = detect_all(evaluating, Ensemble([detector]), dataset).found
    calibration = fit_calibration(found, dataset, dataset.class_names)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    replace(detector, calibration=calibration).save(options.output)
    for name, best in zip(detector.class_names, calibration.best_f1.tolist(), strict=True):
        print(f"{name:<12} best F1 from a score of {best:6.2f} on")
    error = calibration_error([calibration(each) for each in found], dataset, dataset.class_names)
    source = f"{len(dataset)} images of {dataset.name}, which it was fitted to"
    print(f"{options.output}: expected calibration error {'-' if isnan(error) else f'{error:.3f}'} on {source}")
    return 0
