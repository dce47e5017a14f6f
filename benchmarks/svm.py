"""The dual solver of all classes against scikit-learn's LinearSVC, on the same samples of real images.

Samples are all objects of the split and random negatives of every image, up to --samples. LinearSVC (liblinear) fits
class by class; with --classes N it fits only the first N classes, and its time is scaled to all.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from detector.build import build_cache
from detector.cli.console import progress
from detector.config.detector import SVMConfig, load_config
from detector.datasets.loading import load_voc
from detector.datasets.readers.voc import VOC_CLASSES
from detector.heads.linear import LinearSVMs
from detector.training.svm.dual_solver import solve_dual
from detector.training.svm.problem import objectives, solve_liblinear
from detector.training.training_set import TrainingSet, scaled


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a recipe, such as configs/default.yaml")
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as train")
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="cache directory")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of the backbone, instead of the recipe's")
    parser.add_argument("--images", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--samples", type=int, default=20_000, metavar="N", help="default: 20000")
    parser.add_argument("--classes", type=int, default=20, metavar="N", help="classes for LinearSVC (default: 20)")
    parser.add_argument("--losses", nargs="+", default=["hinge", "squared_hinge"], metavar="LOSS", help="default: both")


def measure(options: argparse.Namespace) -> int:
    config = load_config(options.config, options.weights)
    dataset = load_voc(options.voc, options.split, VOC_CLASSES)
    dataset = dataset[: options.images]
    cache = build_cache(config, options.cache)
    images = TrainingSet(dataset, len(VOC_CLASSES), cache, config.svm.max_negative_iou)
    images = scaled(images, config.svm.mean_norm, config.svm.center, config.svm.seed)
    features, targets = draw(images, options.samples)
    print(f"{machine()}\n{len(features)} x {features.shape[1]} samples of {len(dataset)} images of {dataset.name}")
    for loss in options.losses:
        compare(SVMConfig(loss=loss, C=config.svm.C), features, targets, options.classes)
    return 0


def draw(images: TrainingSet, count: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Return features ``(N, D)`` and targets ``(N, K)``, N at most ``count``."""
    rng = np.random.default_rng(0)
    features = np.empty((count, images.n_features), np.float32)
    targets = np.empty((count, images.n_classes), np.int8)
    size = 0
    for index in progress(range(len(images)), "samples"):
        samples = images[index]
        positive = np.flatnonzero((samples.targets > 0).any(1))
        negative = rng.permutation(np.arange(len(positive), len(samples.targets)))
        share = round((count - size) / (len(images) - index))
        rows = np.concatenate([positive, negative[: max(share - len(positive), 0)]])[: count - size]
        features[size : size + len(rows)] = samples.features(rows)
        targets[size : size + len(rows)] = samples.targets[rows]
        size += len(rows)
    return features[:size], targets[:size]


def compare(config: SVMConfig, features: NDArray[np.float32], targets: NDArray[np.int8], n_classes: int) -> None:
    start = time.perf_counter()
    ours = solve_dual(config, features, targets)
    our_seconds = time.perf_counter() - start
    print(f"{config.loss}, C {config.C:g}: ours, {targets.shape[1]} classes {our_seconds:.1f} s", flush=True)
    first = targets[:, :n_classes]
    start = time.perf_counter()
    theirs = solve_liblinear(config, features, first)
    seconds = (time.perf_counter() - start) * targets.shape[1] / n_classes
    print(f"  LinearSVC, {n_classes} of {targets.shape[1]} classes, scaled to all: {seconds:.1f} s", flush=True)
    ours = LinearSVMs(ours.weights[:, :n_classes], ours.biases[:n_classes])
    scores, their_scores = ours.decision_function(features), theirs.decision_function(features)
    ratio = objectives(config, ours, scores, first) / objectives(config, theirs, their_scores, first)
    correlations = [np.corrcoef(scores[:, k], their_scores[:, k])[0, 1] for k in range(n_classes)]
    print(
        f"  ours is {seconds / our_seconds:.1f} times as fast; its objective is {ratio.min():.5f} to {ratio.max():.5f} "
        f"of LinearSVC's; minimum correlation of scores {min(correlations):.6f}"
    )
