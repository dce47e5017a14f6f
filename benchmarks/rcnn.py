"""SPP against R-CNN with the same network, proposals and SVM training: seconds per image, and mAP.

The paper's table 10 on this processor, without the layers after the convolutions: compare times with the paper's
convolution. Features are the last map, pooled by the pyramid (SPP) or to 6 x 6 (R-CNN), without fine-tuning or box
regression. Methods between the two explain their difference. Features and results are kept in --work, so that a killed
run resumes.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.crops import MEAN as NETWORKS
from benchmarks.machine import machine
from benchmarks.rcnn_methods import METHODS, RCNN, USUAL, Comparison, recipe
from benchmarks.rcnn_times import STEPS, time_all
from detector.cli.console import write_json
from detector.cli.outputs import output_numbers
from detector.config.detector import Config, FeatureConfig, load_config
from detector.datasets.dataset import Dataset
from detector.datasets.loading import load_voc
from detector.detections import Detections
from detector.evaluation.bootstrap import resample_precisions, standard_error_of_difference
from detector.evaluation.groups import find_groups
from detector.evaluation.outcomes import gather_outcomes
from detector.evaluation.voc import average_precisions, mean_of

PAPER = {
    "convolution, ZF-5, GPU": ("0.053 s", "0.293 s", "14.37 s"),
    "R-CNN takes, convolution": ("270 x", "49 x", "1 x"),
    "features up to fc7, ZF-5, GPU": ("0.142 s", "0.382 s", "14.46 s"),
    "R-CNN takes, up to fc7": ("102 x", "38 x", "1 x"),
    "mAP on test, fine-tuned, regression": ("58.0", "59.2", "59.2"),
    "mAP on test, pool5, R-CNN on AlexNet": ("43.0", "44.9", "44.2"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="images to test on: a list such as val")
    parser.add_argument("--images", type=int, default=250, metavar="N", help="the first N of them (default: 250)")
    parser.add_argument("--train-split", default="train", help="images to train on (default: train)")
    parser.add_argument("--train-images", type=int, default=250, metavar="M", help="the first M of them (default: 250)")
    parser.add_argument("--backbone", choices=list(NETWORKS), default="alexnet", help="network (default: alexnet)")
    parser.add_argument("--weights", metavar="FILE", help="safetensors file (default: torchvision's, downloaded)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="take SVMs from a recipe (default: the release's)")
    named = f"{'; '.join(METHODS)} (default: the first three)"
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=USUAL, metavar="NAME", help=named)
    parser.add_argument(
        "--power", type=float, nargs="+", default=[1.0], help="power normalization of pooled values (default: 1)"
    )
    parser.add_argument(
        "--times-c", type=float, nargs="+", default=[1.0], metavar="X", help="factors of C to try on a fifth of train"
    )
    parser.add_argument("--max-boxes", type=int, default=500, help="maximum proposals per image (default: 500)")
    kinds = ("auto", "float32", "bfloat16")
    parser.add_argument("--precision", choices=kinds, default="auto", help="precision of the network (default: auto)")
    parser.add_argument("--time-images", type=int, default=5, metavar="T", help="time the first T (default: 5)")
    parser.add_argument("--time-boxes", type=int, default=2000, help="proposals of the timed images (default: 2000)")
    parser.add_argument(
        "--time-precision", choices=kinds, default="float32", help="precision of the timed network (default: float32)"
    )
    parser.add_argument("--work", type=Path, default=Path("cache/rcnn"), metavar="DIR", help="(default: cache/rcnn)")
    parser.add_argument("--json", type=output_numbers, metavar="FILE", help="write the numbers to FILE; - is stdout")


def measure(options: argparse.Namespace) -> int:
    train_set = first(load_voc(options.voc, options.train_split), options.train_images)
    test_set = first(load_voc(options.voc, options.split), options.images)
    check_disk(options.work, (len(train_set) + len(test_set)) * options.max_boxes * 36 * 320 * 2)
    methods = [*dict.fromkeys([*options.methods, RCNN])]
    given = Config() if options.config is None else load_config(options.config)
    network = FeatureConfig(
        backbone=options.backbone,
        weights=options.weights,
        precision=options.precision,
    )
    report: dict[str, Any] = {"machine": machine(), "network": options.backbone}
    comparison = Comparison(train_set, test_set, options.work)
    print(
        f"{report['machine']}\nmAP (VOC07): {test_set.name}, trained on {train_set.name}; {options.max_boxes} boxes; "
        f"{given.svm.loss}, norm {given.svm.mean_norm:g}, {'' if given.svm.center else 'not '}centered"
    )
    report |= {"evaluated_on": test_set.name, "trained_on": train_set.name, "mAP": {}}
    svms = {}
    for power in options.power:
        found, best = {}, {}
        for name in methods:
            features = network.updated({"power": power})
            tried = {c: recipe(METHODS[name], features, given, options.max_boxes, c) for c in options.times_c}
            best[name] = comparison.best_c(METHODS[name], tried)
            learned = comparison.found(METHODS[name], tried[best[name]])
            found[name], svms[name] = learned.detections, learned.svms
        table = compare(found, test_set)
        report["mAP"][f"{power:g}"] = {name: {"times_c": best[name], **row} for name, row in table.items()}
        print_precisions(report["mAP"][f"{power:g}"], power)
    if options.time_images:
        timed = network.updated({"precision": options.time_precision})
        configs = {name: recipe(METHODS[name], timed, given, options.time_boxes) for name in methods}
        report["times"] = {"data": test_set.name, **time_all(configs, svms, test_set, options.time_images)}
        print_times(report)
    print_paper()
    if options.json is not None:
        write_json(options.json, report)
    return 0


def first(dataset: Dataset, count: int) -> Dataset:
    """Return the first images of a dataset, with a name."""
    images = dataset[:count]
    return replace(images, name=f"the first {len(images)} images of {dataset.name}")


def check_disk(work: Path, needed: int) -> None:
    """Raise ValueError if R-CNN's features, ``needed`` bytes, do not fit."""
    work.mkdir(parents=True, exist_ok=True)
    if needed > (free := shutil.disk_usage(work).free) and not list(work.glob("crops-*")):
        raise ValueError(f"{work}: R-CNN's features take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")


def compare(found: Mapping[str, list[Detections]], dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Return the mAP (VOC07) of each method, that by size and shape, and its difference to R-CNN with standard error.

    The error comes from a bootstrap over images, with the same draws for all methods.
    """
    outcomes = {name: gather_outcomes(each, dataset, dataset.class_names) for name, each in found.items()}
    means = {name: mean_of(average_precisions(each, "voc07")) for name, each in outcomes.items()}
    drawn = {name: resample_precisions(each, "voc07") for name, each in outcomes.items()}
    return {
        name: {
            "mAP": means[name],
            "minus_rcnn": [means[name] - means[RCNN], standard_error_of_difference(drawn[RCNN], drawn[name])],
            "groups": {group.name: group.mean_precision for group in find_groups(each, "voc07")},
        }
        for name, each in outcomes.items()
    }


def print_times(report: Mapping[str, Any]) -> None:
    times = report["times"]
    medians = times["medians"]
    print(
        f"times: {times['images']} of {times['data']}, {times['boxes']:.0f} boxes each, {times['precision']}; medians"
    )
    _row(report["network"], medians)
    for stage in (*STEPS, "features", "everything"):
        _row(stage, [f"{seconds[stage]:.3f} s" for seconds in medians.values()])
    for stage in ("features", "everything"):
        _row(f"R-CNN takes, {stage}", [f"{medians[RCNN][stage] / each[stage]:.1f} x" for each in medians.values()])


def print_precisions(table: Mapping[str, Mapping[str, Any]], power: float) -> None:
    """Print one column per method."""
    _row(f"power {power:g} of pooled values", table)
    _row("times C", [f"{each['times_c']:g}" for each in table.values()])
    _row("mAP", [f"{100 * each['mAP']:.1f}" for each in table.values()])
    differences = [each["minus_rcnn"] for each in table.values()]
    _row("minus R-CNN", [f"{100 * mean:+.1f} +- {100 * error:.1f}" for mean, error in differences])
    for group in table[RCNN]["groups"]:
        _row(f"mAP of {group} objects", [f"{100 * each['groups'][group]:.1f}" for each in table.values()])


def print_paper() -> None:
    _row("the paper", USUAL)
    for name, cells in PAPER.items():
        _row(name, cells)


def _row(name: str, cells: Any) -> None:
    print(f"{name:<40}" + "".join(f"{cell:>25}" for cell in cells), flush=True)
