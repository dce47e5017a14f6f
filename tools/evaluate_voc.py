"""Mean average precision on a VOC split.

python tools/evaluate_voc.py --voc ROOT --split val [--model M | --detections DIR]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.voc import load_voc
from detector.console import Parser, progress, run, write_json
from detector.evaluation.files import read_detections, write_detections
from detector.evaluation.voc import by_class, evaluate_voc


def parser() -> Parser:
    parser = Parser(description="Average precision a class and its mean, as the VOC devkit counts.")
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as val")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--model", type=Path, help="a model file (default: the one that comes with the package)")
    source.add_argument("--detections", type=Path, metavar="DIR", help="score comp4_det_<split>_<class>.txt files")
    parser.add_argument("--metric", choices=("voc07", "area"), default="voc07", help="11 points (default) or area")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to FILE; - is stdout")
    parser.add_argument("--save-detections", type=Path, metavar="DIR", help="write comp4_det files to DIR")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep feature maps and proposals, as in training")
    parser.add_argument("--weights", type=Path, help="where the backbone's weights are, if not where they were")
    parser.add_argument("--device", default="cpu", help="torch device of the network (default: cpu)")
    return parser


def main() -> int:
    options = parser().parse_args()
    dataset = load_voc(options.voc, options.split)
    if options.detections is not None:
        detections = read_detections(options.detections, options.split, dataset.class_names)
    else:
        found = detect_all(dataset, options)
        image_ids = [annotation.image_id for annotation in dataset]
        if options.save_detections is not None:
            write_detections(options.save_detections, options.split, image_ids, found)
        detections = by_class(image_ids, found)
    result = evaluate_voc(detections, dataset, dataset.class_names, options.metric)
    if str(options.json) != "-":
        for name, value in result.AP.items():
            print(f"{name:<12} {100 * value:5.1f}")
        print(f"{'mAP':<12} {100 * result.mAP:5.1f}   ({options.metric}, {result.images} images of {dataset.name})")
    if options.json is not None:
        write_json(options.json, result.to_json())
    return 0


def detect_all(dataset: Any, options: Any) -> list[Any]:
    """Detections of every picture; with a cache, a run that was killed finds its features there."""
    from detector.image import read_image
    from detector.pipeline import Detector
    from detector.training import cache_of

    detector = Detector.load(options.model, options.device, options.weights)
    cache = None if options.cache is None else cache_of(detector, options.cache)
    found = []
    for annotation in progress(dataset, "detect"):
        if cache is None:
            found.append(detector.detect(read_image(annotation.path)))
        else:
            boxes = cache.proposals(annotation.image_id, annotation.path)
            maps = cache.maps(annotation.image_id, annotation.path)
            found.append(detector.detect_in_maps(maps, boxes))
    return found


if __name__ == "__main__":
    run(main)
