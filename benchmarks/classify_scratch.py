"""Pyramid and multi-size training from scratch: accuracy on objects of VOC, for equal numbers of batches.

The paper's tables 2 and 3, small enough for an afternoon: a narrow ZF-5 is trained on cropped objects, without a
pyramid, with one, and with one at two alternating sizes; with --methods also with fewer bins than cells, and at random
sizes. Results are kept in --work, so that a killed run resumes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks.machine import machine
from detector.classification.model import Classifier
from detector.classification.samples import ResizedImages
from detector.classification.training import train_classifier
from detector.classification.views import Views
from detector.cli.console import progress, write_json
from detector.cli.outputs import output_numbers
from detector.config.classifier import ClassifierConfig, ImageConfig, NetworkConfig, TrainingConfig
from detector.datasets.image_classes import LabeledImages, labeled_objects
from detector.datasets.loading import load_voc

SHORT_SIDE, CROP, SMALLER = 128, 112, 90
"""Half of the paper's 256, 224 and 180 pixels: most objects are not larger."""


class Method(NamedTuple):
    """Pyramid and sizes of a training, as in a recipe's `network` and `images`."""

    pyramid: tuple[int, ...] | None
    sizes: tuple[int, ...]
    size_rule: Literal["alternate", "random"] = "alternate"


METHODS = {
    "no pyramid": Method(None, (CROP,)),
    "pyramid": Method((6, 3, 2, 1), (CROP,)),
    "multi-size": Method((6, 3, 2, 1), (CROP, SMALLER)),
    "30 bins": Method((4, 3, 2, 1), (CROP,)),
    "random sizes": Method((6, 3, 2, 1), (SMALLER, CROP), "random"),
}
USUAL = ("no pyramid", "pyramid", "multi-size")
VIEWS: tuple[Views, ...] = ("one", "ten", "whole")
PAPER = {
    "ten": {"no pyramid": 64.01, "pyramid": 65.02, "multi-size": 65.40, "30 bins": 64.94},
    "one": {"pyramid": 61.99, "multi-size": 62.43},
    "whole": {"pyramid": 62.45, "multi-size": 62.93},
}
"""Top-1 accuracy of ZF-5 on ImageNet (tables 2 and 3; section 3.1.2), by views and method."""
BLOCK = 256


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="objects to classify: a list such as val")
    parser.add_argument("--train-split", default="train", help="objects to train on (default: train)")
    parser.add_argument("--images", type=int, metavar="N", help="only objects of the first N images")
    parser.add_argument("--train-images", type=int, metavar="M", help="train on those of the first M (default: all)")
    named = f"{', '.join(METHODS)} (default: the first three)"
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=USUAL, metavar="NAME", help=named)
    parser.add_argument("--backbone", default="zf5/0.25", help="network (default: zf5/0.25)")
    parser.add_argument("--hidden", type=int, nargs="*", default=[512, 512], help="fc layers (default: 512 512)")
    parser.add_argument("--epochs", type=int, default=14, help="epochs of every training (default: 14)")
    parser.add_argument("--batch-size", type=int, default=32, help="default: 32")
    parser.add_argument("--lr", type=float, default=0.005, help="initial learning rate (default: 0.005)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each kind (default: 3)")
    parser.add_argument("--work", type=Path, default=Path("cache/scratch"), help="folder (default: cache/scratch)")
    parser.add_argument("--json", type=output_numbers, metavar="FILE", help="write the numbers to FILE; - is stdout")


def measure(options: argparse.Namespace) -> int:
    train_set = labeled_objects(load_voc(options.voc, options.train_split)[: options.train_images])
    test_set = labeled_objects(load_voc(options.voc, options.split)[: options.images])
    print(machine())
    print(f"{options.backbone}, fc {options.hidden}, {options.epochs} epochs of {len(train_set)} {train_set.name}")
    results: dict[str, list[dict[str, float]]] = {method: [] for method in options.methods}
    for seed in range(options.seeds):  # all methods of one seed first, so that an interrupted run compares them
        for method in results:
            start = time.monotonic()
            classifier = train_classifier(recipe(options, method, seed), train_set, options.work, progress)
            seconds = time.monotonic() - start
            found = {str(views): accuracy(classifier, test_set, views, options.work) for views in views_of(method)}
            results[method].append({**found, "seconds": seconds})
            cells = ", ".join(f"{views} {100 * value:.1f}" for views, value in found.items())
            print(f"seed {seed}, {method}: {cells} ({seconds:.0f} s)", flush=True)
    print_table(results, f"accuracy on {len(test_set)} {test_set.name}, %")
    if options.json is not None:
        write_json(options.json, {"machine": machine(), "epochs": options.epochs, "results": results})
    return 0


def recipe(options: argparse.Namespace, method: str, seed: int) -> ClassifierConfig:
    """Return the recipe of a method; methods differ only in pyramid and sizes."""
    pyramid, sizes, size_rule = METHODS[method]
    return ClassifierConfig(
        network=NetworkConfig(
            backbone=options.backbone, weights="random", frozen=False, pyramid=pyramid, hidden=tuple(options.hidden)
        ),
        images=ImageConfig(short_side=SHORT_SIDE, crop=CROP, sizes=sizes, size_rule=size_rule),
        training=TrainingConfig(
            epochs=options.epochs,
            batch_size=options.batch_size,
            lr=options.lr,
            lr_drop_epochs=drop_epochs(options.epochs),
            seed=seed,
        ),
    )


def drop_epochs(epochs: int) -> tuple[int, ...]:
    """Return the epochs that divide the learning rate by ten: six and nine tenths of all, each at least 1."""
    return max(1, 6 * epochs // 10), max(1, 9 * epochs // 10)


def views_of(method: str) -> tuple[Views, ...]:
    return VIEWS if METHODS[method].pyramid else VIEWS[:2]


def accuracy(classifier: Classifier, samples: LabeledImages, views: Views, work: Path) -> float:
    """Return the fraction of samples whose most probable class is correct."""
    images = ResizedImages(samples, SHORT_SIDE, work)
    hits = 0
    for start in range(0, len(samples), BLOCK):
        rows = range(start, min(start + BLOCK, len(samples)))
        scores = classifier.scores([images[row] for row in rows], views)
        hits += int((scores.argmax(1) == samples.targets[rows.start : rows.stop].argmax(1)).sum())
    return hits / len(samples)


def print_table(results: dict[str, list[dict[str, float]]], title: str) -> None:
    """Print mean and standard deviation over seeds, one column per method."""

    def row(name: str, cells: Any) -> None:
        print(f"{name:<40}" + "".join(f"{cell:>18}" for cell in cells))

    row(title, results)
    for views in VIEWS:
        row(f"views {views}", [spread([run[views] for run in runs if views in run]) for runs in results.values()])
    row("seconds", [f"{np.mean([run['seconds'] for run in runs]):.0f}" for runs in results.values()])
    for name, known in PAPER.items():
        row(f"paper, ImageNet, ZF-5, {name}", [f"{known[method]:.1f}" if method in known else "" for method in results])


def spread(values: list[float]) -> str:
    if not values:
        return "-"
    deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
    return f"{100 * np.mean(values):.1f} +- {100 * deviation:.1f}"
