"""Mean average precision by VOC's rules on a VOC list or a COCO file.

python tools/evaluate_voc.py (--voc ROOT --split val | --coco JSON) [--model M | --detections DIR]
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from detector.commands.console import Parser, command, output_file, progress, report, write_json
from detector.commands.options import (
    add_data_options,
    add_model_options,
    data_source,
    load_data,
    precomputed_boxes,
)
from detector.datasets.annotation import Dataset
from detector.evaluation.result_files import check_image_ids, read_detections, write_detections
from detector.evaluation.voc import by_class, evaluate_voc

if TYPE_CHECKING:
    from detector.detections import Detections
    from detector.ensemble import Ensemble


def parser() -> Parser:
    parser = Parser(description="Average precision a class and its mean, as the VOC devkit counts.")
    add_data_options(parser)
    add_model_options(parser)
    parser.add_argument(
        "--detections", type=Path, metavar="DIR", help="score comp4_det_<split or JSON>_<class>.txt files"
    )
    parser.add_argument("--metric", choices=("voc07", "area"), default="voc07", help="11 points (default) or area")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write the numbers to FILE; - is stdout")
    parser.add_argument("--save-detections", type=Path, metavar="DIR", help="write comp4_det files to DIR")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep feature maps and proposals, as in training")
    parser.add_argument("--record", action="store_true", help="note the result in the file of --model")
    return parser


@command
def main() -> int:
    options = parser().parse_args()
    data_source(options)  # options that do not fit are told before a model is loaded
    if options.record and len(options.model or []) != 1:
        raise ValueError("--record needs one --model, the file to note the result in")
    if options.record and not options.mirror:
        raise ValueError("--record notes what the model itself reaches, and goes without --no-mirror")
    if options.model and options.detections:
        raise ValueError("--detections are scored without a --model")
    detector = None
    if options.detections is None:
        from detector.ensemble import load_ensemble

        detector = load_ensemble(options.model, options.device, options.weights, options.mirror)
    # a model need not find all its classes in the data, and result files are scored without the images
    known = detector.class_names if detector else None
    checked = {"open_images": detector is not None, "need_objects": options.classes is not None}
    dataset = load_data(options, known, **checked, default_split="val")
    split = Path(options.split).name.removesuffix(".txt") if options.split else (options.coco or options.data).stem
    if detector is None:
        detections = read_detections(options.detections, split, dataset.class_names)
    else:
        image_ids = [annotation.image_id for annotation in dataset]
        if options.save_detections is not None:
            check_image_ids(image_ids)
        found = detect_all(detector, dataset, options)
        if options.save_detections is not None:
            write_detections(options.save_detections, split, image_ids, found)
        detections = by_class(image_ids, found)
    result = evaluate_voc(detections, dataset, dataset.class_names, options.metric)
    if str(options.json) != "-":
        for name, value in result.AP.items():
            print(f"{name:<12} {100 * value:5.1f}")
        print(f"{'mAP':<12} {100 * result.mAP:5.1f}   ({options.metric}, {result.images} images of {dataset.name})")
    if options.record and detector is not None:
        note = {
            "mAP": result.mAP,
            "metric": result.metric,
            "evaluated_on": dataset.name,
            "evaluated_images": len(dataset),
        }
        (only,), (path,) = detector.detectors, options.model
        replace(only, record={**only.record, **note}).save(path)
    if options.json is not None:
        write_json(options.json, result.to_json())
    return 0


def detect_all(detector: Ensemble, dataset: Dataset, options: Namespace) -> list[Detections]:
    """Detections of every image; with a cache, a run that was killed finds its features there.

    An image that cannot be read is reported, and its objects count as missed; ValueError when none could be.
    """
    from detector.detections import Detections
    from detector.images.files import read_image

    boxes = precomputed_boxes(options.proposals)
    caches = [each.cache(options.cache, boxes) for each in detector.detectors] if options.cache else []
    found = []
    unreadable = 0
    for each in progress(dataset, "detect"):
        try:
            if caches:
                found.append(detector.detect_cached(caches, each))
            else:
                given = None if boxes is None else boxes[each.image_id]
                found.append(detector.detect(read_image(each.path), given))
        except ValueError as error:
            report(error if str(each.path) in str(error) else ValueError(f"{each.path}: {error}"))
            unreadable += 1
            found.append(Detections.empty(detector.class_names))
    if unreadable == len(dataset):
        raise ValueError("none of the images could be read")
    return found
