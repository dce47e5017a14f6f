"""SPP against R-CNN on the same network, proposals and SVM training: seconds an image, and mAP.

The paper's table 10 on this processor, but for the layers after the convolutions: features are the last map pooled
by the pyramid (SPP) or to 6 x 6 (R-CNN), without fine-tuning or box regression. What was computed for the mAP stays
in --work, and a run that was killed goes on from there.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.crops import LEVELS, SIDE, CropCache, CropEncoder
from benchmarks.crops import MEAN as NETWORKS
from benchmarks.machine import machine
from detector.backbones.backbone import Backbone
from detector.boxes import Boxes
from detector.commands.console import progress, write_json
from detector.commands.outputs import output_numbers
from detector.config.detector import Config, FeatureConfig, ProposalConfig, RegressionConfig, load_config
from detector.datasets.annotation import Dataset
from detector.datasets.voc import load_voc
from detector.detections import Detections
from detector.evaluation.voc import VocResult, by_class, evaluate_voc
from detector.features.encoder import Encoder
from detector.features.feature_cache import FeatureCache
from detector.images.files import read_image
from detector.pipeline import Detector
from detector.stages import build_encoder, build_proposer
from detector.training.train import train

RCNN = "R-CNN"
METHODS = {"SPP, 1 scale": (688,), "SPP, 5 scales": (480, 576, 688, 864, 1200), RCNN: (SIDE,)}
STAGES = ("proposals", "convolution", "pooling", "pooling to detections")
PAPER = {
    "paper: features up to fc7, ZF-5, GPU": ("0.142 s", "0.382 s", "14.46 s"),
    "paper: R-CNN takes": ("102 x", "38 x", "1 x"),
    "paper: mAP on test, fine-tuned, regression": ("58.0", "59.2", "59.2"),
    "paper: mAP on test, pool5, R-CNN on AlexNet": ("43.0", "44.9", "44.2"),
}
DRAWS = 200


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="images to find objects in: a list such as val")
    parser.add_argument("--images", type=int, default=250, metavar="N", help="the first N of them (default: 250)")
    parser.add_argument("--train-split", default="train", help="images to train on (default: train)")
    parser.add_argument("--train-images", type=int, default=250, metavar="M", help="the first M of them (default: 250)")
    parser.add_argument("--backbone", choices=list(NETWORKS), default="alexnet", help="network (default: alexnet)")
    parser.add_argument("--weights", metavar="FILE", help="safetensors file (default: torchvision's, downloaded)")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="take SVMs and features.power from a recipe (default: the release's)",
    )
    parser.add_argument("--max-boxes", type=int, default=500, help="proposals of an image (default: 500)")
    kinds = ("auto", "float32", "bfloat16")
    parser.add_argument("--precision", choices=kinds, default="auto", help="of the network (default: what is fast)")
    parser.add_argument("--time-images", type=int, default=5, metavar="T", help="time the first T (default: 5)")
    parser.add_argument("--time-boxes", type=int, default=2000, help="with so many proposals (default: 2000)")
    parser.add_argument("--time-precision", choices=kinds, default="float32", help="and this (default: float32)")
    parser.add_argument("--work", type=Path, default=Path("cache/rcnn"), metavar="DIR", help="(default: cache/rcnn)")
    parser.add_argument("--json", type=output_numbers, metavar="FILE", help="write the numbers to FILE; - is stdout")


def measure(options: argparse.Namespace) -> int:
    train_set = first(load_voc(options.voc, options.train_split), options.train_images)
    test_set = first(load_voc(options.voc, options.split), options.images)
    needed = (len(train_set) + len(test_set)) * options.max_boxes * 36 * 256 * 2
    options.work.mkdir(parents=True, exist_ok=True)
    if needed > (free := shutil.disk_usage(options.work).free) and not list(options.work.glob("crops-*")):
        raise ValueError(f"{options.work}: R-CNN's features take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
    detectors: dict[str, Detector] = {}
    found: dict[str, list[Detections]] = {}
    seconds: dict[str, float] = {}
    for method in METHODS:
        start = time.monotonic()
        detectors[method], found[method] = learn(options, method, train_set, test_set)
        seconds[method] = time.monotonic() - start
    report = {
        "machine": machine(),
        "network": options.backbone,
        "times": {"data": test_set.name, **time_all(options, detectors, test_set)},
        "mAP": {
            "trained_on": train_set.name,
            "evaluated_on": test_set.name,
            "max_boxes": options.max_boxes,
            "precision": detectors[RCNN].encoder.backbone.precision,
            "svm": detectors[RCNN].config.svm.model_dump(),
            "power": detectors[RCNN].config.features.power,
            "seconds": seconds,
            **compare(found, test_set),
        },
    }
    print_report(report)
    if options.json is not None:
        write_json(options.json, report)
    return 0


def first(dataset: Dataset, count: int) -> Dataset:
    """The first images of a data set, and what they are called."""
    chosen = dataset[:count]
    return replace(chosen, name=f"the first {len(chosen)} images of {dataset.name}")


def learn(
    options: argparse.Namespace, method: str, train_set: Dataset, test_set: Dataset
) -> tuple[Detector, list[Detections]]:
    """A detector trained on the one set, and what it finds in the other; both from the cache where they can."""
    config = recipe(options, method, options.precision, options.max_boxes)
    encoder, propose = encoder_of(method, config.features), build_proposer(config.proposals)
    cache = FeatureCache(options.work, encoder, propose, config.proposals.model_dump())
    if method == RCNN:
        boxes = {each.image_id: each.boxes for each in (*train_set, *test_set)}
        cache = CropCache(options.work, encoder, propose, cache.proposal_settings, ground_truth=boxes)
    detector = train(config, train_set, train_set.class_names, cache, progress)
    return detector, [detector.detect_cached(cache, each) for each in progress(test_set, "detect")]


def recipe(options: argparse.Namespace, method: str, precision: Any, max_boxes: int) -> Config:
    """How a method is trained, or timed at another precision and number of boxes."""
    given = Config() if options.config is None else load_config(options.config)
    features = FeatureConfig(
        backbone=options.backbone,
        weights=options.weights,
        precision=precision,
        runtime="torch",  # which computes crops, too
        short_sides=METHODS[method],
        power=given.features.power,
    )
    if method == RCNN:
        features = features.model_copy(update={"levels": LEVELS})
    proposals = ProposalConfig(max_boxes=max_boxes)
    return Config(features=features, proposals=proposals, svm=given.svm, regression=RegressionConfig(enabled=False))


def encoder_of(method: str, features: FeatureConfig) -> Encoder:
    encoder = build_encoder(features)
    if method != RCNN:
        return encoder
    assert isinstance(encoder.backbone, Backbone)
    return CropEncoder(encoder.backbone, encoder.normalise)


def compare(found: Mapping[str, list[Detections]], dataset: Dataset) -> dict[str, Any]:
    """mAP (VOC07) of each method, and its difference to R-CNN with a standard error.

    The error is that of a bootstrap over images, the same draws for all methods.
    """
    random = np.random.default_rng(0)
    draws = random.integers(0, len(dataset), (DRAWS, len(dataset)))
    results = {method: evaluated(each, dataset, np.arange(len(dataset))) for method, each in found.items()}
    drawn = {
        method: np.array([evaluated(each, dataset, draw).mAP for draw in progress(draws, f"errors of {method}")])
        for method, each in found.items()
    }
    return {
        method: {
            **result.to_json(),
            "less_rcnn": [result.mAP - results[RCNN].mAP, float(np.nanstd(drawn[method] - drawn[RCNN]))],
        }
        for method, result in results.items()
    }


def evaluated(found: list[Detections], dataset: Dataset, images: NDArray[np.int64]) -> VocResult:
    """Average precisions on some images; one that is drawn twice counts as two."""
    drawn = [replace(dataset[int(index)], image_id=str(i)) for i, index in enumerate(images)]
    detections = by_class([each.image_id for each in drawn], [found[index] for index in images])
    return evaluate_voc(detections, drawn, dataset.class_names)


def time_all(options: argparse.Namespace, trained: Mapping[str, Detector], dataset: Dataset) -> dict[str, Any]:
    """Median seconds of every stage; for each image all methods take their turn."""
    configs = {method: recipe(options, method, options.time_precision, options.time_boxes) for method in METHODS}
    detectors = {m: replace(trained[m], encoder=encoder_of(m, config.features)) for m, config in configs.items()}
    propose = build_proposer(configs[RCNN].proposals)
    images = [read_image(each.path) for each in dataset[: options.time_images]]
    for method, detector in detectors.items():  # what is compiled or allocated on first use
        stages(detector, images[0], propose(images[0])[: 64 if method == RCNN else None])
    times: dict[str, list[list[float]]] = {method: [] for method in METHODS}
    n_boxes = []
    for image in progress(images, "times"):
        start = time.perf_counter()
        boxes = propose(image)
        proposals = time.perf_counter() - start
        n_boxes.append(len(boxes))
        for method, detector in detectors.items():
            times[method].append([proposals, *stages(detector, image, boxes)])
    medians: dict[str, dict[str, float]] = {}
    for method, rows in times.items():
        table = np.array(rows)
        medians[method] = dict(zip(STAGES, np.median(table, axis=0).tolist(), strict=True))
        medians[method]["features"] = float(np.median(table[:, [1, 2]].sum(1)))
        medians[method]["everything"] = float(np.median(table[:, [0, 1, 3]].sum(1)))
    precision = detectors[RCNN].encoder.backbone.precision
    return {"images": len(images), "boxes": float(np.median(n_boxes)), "precision": precision, "medians": medians}


def stages(detector: Detector, image: NDArray[np.uint8], boxes: Boxes) -> list[float]:
    """Seconds for convolution, pooling, and pooling with what follows it.

    R-CNN's crops are pooled batch by batch as they are convolved.
    """
    encoder = detector.encoder
    marks = [time.perf_counter()]
    maps = encoder.maps(image, boxes)
    marks.append(time.perf_counter())
    if not isinstance(encoder, CropEncoder):
        encoder.pool(maps, encoder.regions(maps, boxes))
    marks.append(time.perf_counter())
    detector.detect_in_maps(maps, boxes)
    marks.append(time.perf_counter())
    return np.diff(marks).tolist()


def print_report(report: Mapping[str, Any]) -> None:
    times, precision = report["times"], report["mAP"]
    medians, svm = times["medians"], precision["svm"]

    def row(name: str, cells: Any) -> None:
        print(f"{name:<44}" + "".join(f"{cell:>16}" for cell in cells))

    print(report["machine"])
    print(
        f"times: {times['images']} of {times['data']}, {times['boxes']:.0f} boxes each, {times['precision']}; medians"
    )
    row(report["network"], METHODS)
    for stage in (*STAGES, "features", "everything"):
        row(stage, [f"{medians[method][stage]:.3f} s" for method in METHODS])
    for stage in ("features", "everything"):
        row(f"R-CNN takes, {stage}", [f"{medians[RCNN][stage] / medians[m][stage]:.1f} x" for m in METHODS])
    print(
        f"mAP (VOC07): {precision['evaluated_on']}, trained on {precision['trained_on']}; "
        f"{precision['max_boxes']} boxes, network in {precision['precision']}, features in float16; "
        f"to the power {precision['power']:g}; "
        f"{svm['loss']}, C {svm['C']:g}, norm {svm['mean_norm']:g}, {'' if svm['centre'] else 'not '}centred"
    )
    row("mAP", [f"{100 * precision[method]['mAP']:.1f}" for method in METHODS])
    differences = [precision[method]["less_rcnn"] for method in METHODS]
    row("less that of R-CNN", [f"{100 * mean:+.1f} +- {100 * error:.1f}" for mean, error in differences])
    for name, cells in PAPER.items():
        row(name, cells)
