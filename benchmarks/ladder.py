"""The ladder from R-CNN to the shipped model: mAP, time of training and of a detection, on the same images in one run.

Each rung changes one thing: one convolution per image instead of one per box, fine-tuned fc layers, end-to-end
training. The first four have EfficientNet-Lite0 with ImageNet weights, box regression, and the paper's order of steps.
The shipped model comes last, as it is installed. Finished rungs in --results are not measured again; a killed rung
resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.crops import LEVELS, SIDE
from benchmarks.machine import machine
from benchmarks.rcnn import check_disk, first
from benchmarks.subsets import Results
from benchmarks.trained_methods import Trained, precision_of, seconds_per_image, train_method
from detector.cli.outputs import OutputFile, begins, cache_folder
from detector.config.detector import Config, load_config, parse_config
from detector.datasets.dataset import Dataset
from detector.datasets.loading import load_voc
from detector.evaluation.bootstrap import standard_error_of_difference
from detector.pipeline import Detector
from detector.runtime.files import fingerprint

STAGE, CHANNELS = "blocks.5", 192
"""Stage of the shipped model, and the channels of its map."""
MIN_LOG_ODDS = -3.0
"""Minimum score of a softmax: a probability of 5 %."""
SHIPPED = "shipped model"
CROPS = "R-CNN: SVMs on crops"
FROZEN = "SPP-net: SVMs, frozen"
FINE_TUNED = "SPP-net: fine-tuned fc7, SVMs"
END_TO_END = "Fast R-CNN: end to end"
RUNGS = (CROPS, FROZEN, FINE_TUNED, END_TO_END, SHIPPED)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="images to test on: a list such as val")
    parser.add_argument("--images", type=int, default=250, metavar="N", help="the first N of them (default: 250)")
    parser.add_argument("--train-split", default="train", help="images to train on (default: train)")
    parser.add_argument("--train-images", type=int, default=500, metavar="M", help="the first M of them (default: 500)")
    parser.add_argument(
        "--rungs", nargs="+", choices=RUNGS, default=RUNGS, metavar="NAME", help=f"{'; '.join(RUNGS)} (default: all)"
    )
    parser.add_argument("--max-boxes", type=int, default=500, help="maximum proposals per image (default: 500)")
    parser.add_argument("--short-side", type=int, default=688, metavar="S", help="scale of SPP-net (default: 688)")
    parser.add_argument("--iterations", type=int, default=6000, metavar="N", help="of fine-tuning (default: 6000)")
    parser.add_argument("--steps", type=int, metavar="N", help="of end-to-end training (default: five epochs)")
    parser.add_argument("--time-images", type=int, default=5, metavar="T", help="time the first T (default: 5)")
    parser.add_argument(
        "--work", type=cache_folder, default=Path("cache/ladder"), metavar="DIR", help="cache directory"
    )
    parser.add_argument(
        "--results", type=OutputFile(begins(rb"\{")), required=True, metavar="FILE", help="file to keep the numbers in"
    )
    parser.add_argument("--plot", type=OutputFile(begins(b"\x89PNG")), metavar="FILE", help="write a plot (PNG)")


def measure(options: argparse.Namespace) -> int:
    whole = load_voc(options.voc, options.train_split, class_names=None)
    train_set = first(whole, options.train_images)
    test_set = first(load_voc(options.voc, options.split, whole.class_names), options.images)
    if CROPS in options.rungs:
        n_rows = (len(train_set) + len(test_set)) * options.max_boxes
        check_disk(options.work, n_rows * LEVELS[0] ** 2 * CHANNELS * 2)
    print(f"{machine()}\nmAP (VOC07) on {test_set.name}; {options.max_boxes} boxes")
    results = Results(options.results)
    table: dict[str, Any] = {}
    for name in options.rungs:
        config = None if name == SHIPPED else recipe(name, options)
        key = key_of(name, config, train_set, test_set)
        if key not in results.numbers:
            results.keep(key, measure_rung(config, name == CROPS, train_set, test_set, options))
        table[name] = results.numbers[key]
    print_table(table)
    if options.plot is not None:
        from benchmarks.plot import plot_ladder

        plot_ladder(options.plot, table)
    return 0


def key_of(name: str, config: Config | None, train_set: Dataset, test_set: Dataset) -> str:
    """Return the key of a rung's numbers: a changed recipe or other images never read old ones."""
    ids = [[each.image_id for each in dataset] for dataset in (train_set, test_set)]
    return f"{name} {fingerprint({'config': config and config.model_dump(mode='json'), 'sets': ids})}"


def recipe(name: str, options: argparse.Namespace) -> Config:
    """Return the recipe of a rung but the last."""
    network = {"backbone": "efficientnet_lite0", "stage": STAGE}
    shared: dict[str, Any] = {"proposals": {"max_boxes": options.max_boxes}, "calibration": {"enabled": False}}
    if name == END_TO_END:
        content = load_config("end_to_end").model_dump(mode="json")
        shared |= {
            "features": network | {"short_sides": [content["features"]["short_sides"][-1]]},
            "fine_tuning": {"head": "softmax"},
            "end_to_end": {"steps": options.steps},
            "proposal_filter": {"enabled": False},
            "detection": {"min_score": MIN_LOG_ODDS, "max_boxes": None, "box_refinements": 0},
        }
        return parse_config({**content, **{each: content[each] | changes for each, changes in shared.items()}}, name)
    scales: dict[str, Any] = {"short_sides": [options.short_side]}
    if name == CROPS:
        scales = {"short_sides": [SIDE], "levels": LEVELS}
    svm = {"loss": "squared_hinge", "center": True, "max_negatives_per_image": 40}
    tuned = {"enabled": name == FINE_TUNED, "iterations": options.iterations}
    return parse_config({**shared, "features": network | scales, "svm": svm, "fine_tuning": tuned}, name)


def measure_rung(
    config: Config | None, crops: bool, train_set: Dataset, test_set: Dataset, options: argparse.Namespace
) -> dict[str, Any]:
    """Train a rung and measure it; without a recipe, measure the shipped model."""
    if config is None:
        model = Detector.load()
        if model.class_names != test_set.class_names:
            raise ValueError(f"the {SHIPPED} knows VOC's 20 classes, others than these: leave it out with --rungs")
        trained = Trained(model, model.cache(options.work), model.record["seconds"] / 60)
    else:
        trained = train_method(config, train_set, test_set, options.work, crops)
    result = precision_of(trained.detections(test_set), test_set)
    seconds = seconds_per_image(trained.detector, test_set, options.time_images)
    n_images = len(train_set) if config else trained.detector.record["images"]
    return {
        **result.to_json(),
        "trained_images": n_images,
        "minutes": trained.minutes,
        "seconds": seconds,
        "resampled": result.resampled.round(4).tolist(),
    }


def print_table(table: Mapping[str, Mapping[str, Any]]) -> None:
    """Print one row per rung; the difference is to the row above, in pairs over the same resamples of images."""
    print("| method | mAP | to the row above | training images | training, minutes | detection, seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    above: Mapping[str, Any] | None = None
    for name, row in table.items():
        mean = f"{100 * row['mAP']:.1f} ± {_percent(row['standard_error']['mAP'])}"
        cells = [name, mean, "" if above is None else difference(above, row), str(row["trained_images"])]
        print("| " + " | ".join([*cells, f"{row['minutes']:.1f}", f"{row['seconds']:.2f}"]) + " |", flush=True)
        above = row


def difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Return how much mAP ``b`` has more than ``a``, in points, with the standard error of the pairs."""
    draws = [np.array(each["resampled"])[:, None] for each in (a, b)]
    return f"{100 * (b['mAP'] - a['mAP']):+.1f} ± {100 * standard_error_of_difference(draws[0], draws[1]):.1f}"


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:.1f}"
