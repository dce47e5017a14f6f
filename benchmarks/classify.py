"""VOC classification from frozen features: gains of the pyramid and of the whole image (the paper's table 6).

Linear SVMs without augmentation (paper, section 3.2) on the pooled last map, scaled to unit norm; layers after it are
not used. C is chosen on every fifth training image. Features are kept in --cache, so that a killed run resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import machine
from detector.backbones.torch_backbone import TorchBackbone, load_torch_backbone
from detector.classification.views import Views, view_images
from detector.cli.console import progress, write_json
from detector.cli.outputs import output_numbers
from detector.config.detector import SVMConfig
from detector.datasets.image_classes import LabeledImages, labeled_images
from detector.datasets.loading import load_voc
from detector.evaluation.voc import average_precision
from detector.features.pooling import PAPER_LEVELS
from detector.features.pyramid_layer import SpatialPyramidPooling
from detector.heads.linear import LinearSVMs
from detector.images.files import read_image
from detector.runtime.array_files import Arrays, cached_arrays
from detector.runtime.files import file_state, fingerprint
from detector.training.svm.dual_solver import solve_dual

Matrix = NDArray[np.float32]

CROP = 224
VIEWS: dict[str, tuple[Views, int]] = {"crop": ("one", 224), "full 224": ("whole", 224), "full 392": ("whole", 392)}
"""View of an image, and its shorter side in pixels; the crop is the largest central square."""
ROWS = {
    "6 x 6 alone, crop 224": ("crop", PAPER_LEVELS[:1]),
    "pyramid, crop 224": ("crop", PAPER_LEVELS),
    "pyramid, whole image, 224": ("full 224", PAPER_LEVELS),
    "pyramid, whole image, 392": ("full 392", PAPER_LEVELS),
}
PAPER = (
    ("conv4", "59.96", "57.28", "-", "-", "-"),
    ("conv5", "66.34", "65.43", "-", "-", "-"),
    ("pool5 (6 x 6 or pyramid)", "69.14", "68.76", "70.82", "71.67", "76.09"),
    ("fc6", "74.86", "75.55", "77.32", "78.78", "81.58"),
    ("fc7", "75.90", "76.45", "78.39", "80.10", "82.44"),
)
COSTS = (0.1, 1.0, 10.0)
HOLD_OUT = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="images to classify: a list such as val")
    parser.add_argument("--train-split", default="train", help="images to train on (default: train)")
    parser.add_argument(
        "--network", action="append", dest="networks", metavar="NAME[=WEIGHTS]", help="default: efficientnet_lite0"
    )
    parser.add_argument("--images", type=int, metavar="N", help="only the first N images of each list")
    parser.add_argument("--train-images", type=int, metavar="M", help="the first M to train on (default: --images)")
    parser.add_argument("--cache", type=Path, default=Path("cache/classify"), help="folder (default: cache/classify)")
    parser.add_argument("--json", type=output_numbers, metavar="FILE", help="write the numbers to FILE; - is stdout")


def measure(options: argparse.Namespace) -> int:
    train_set = first(options.voc, options.train_split, options.train_images or options.images)
    test_set = first(options.voc, options.split, options.images)
    print(f"{machine()}\ntrained on {len(train_set)} of {train_set.name}, AP on {len(test_set)} of {test_set.name}")
    results: dict[str, dict[str, Any]] = {}
    for network in options.networks or ["efficientnet_lite0"]:
        name, _, weights = network.partition("=")
        store = FeatureStore(load_torch_backbone(name, weights=weights or None, precision="auto"), options.cache)
        results[name] = {}
        for row, (view, levels) in ROWS.items():
            features, tested = (store.features(each, view, levels) for each in (train_set, test_set))
            results[name][row] = found = learn(features, train_set.targets, tested, test_set.targets)
            print(f"{name:<24}{row:<32}mAP {100 * found['mAP']:.2f}   C {found['C']:g}", flush=True)
    print_table(results)
    if options.json is not None:
        write_json(options.json, {"machine": machine(), "class_names": test_set.class_names, "networks": results})
    return 0


def first(root: Path, split: str, count: int | None) -> LabeledImages:
    """Load the first images of a list."""
    found = labeled_images(load_voc(root, split))
    return found.take(range(len(found))[:count])


@dataclass(frozen=True)
class FeatureStore:
    """Pooled features of images, float16, in one file per image and view; missing ones are computed."""

    backbone: TorchBackbone
    directory: Path

    def features(self, images: LabeledImages, view: str, levels: tuple[int, ...]) -> Matrix:
        """Return unit rows ``(N, D)``; ``levels`` are the first of the paper's."""
        n_values = sum(level * level for level in levels) * self.backbone.channels
        features = np.empty((len(images), n_values), np.float32)
        paths: Iterable[Any] = progress(list(enumerate(images.paths)), f"{view} of {images.name}")
        for row, path in paths:
            features[row] = self._row(path, view)[:n_values]
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        return features / np.maximum(norms, np.finfo(np.float32).tiny)

    def _row(self, path: Path, view: str) -> Matrix:
        settings = {"digest": self.backbone.digest, "precision": self.backbone.precision, "view": VIEWS[view]}
        name = f"{path.stem}-{fingerprint({'image': file_state(path)})}.safetensors"
        file = self.directory / f"features-{fingerprint(settings)}" / name

        def compute() -> Arrays:
            views, short_side = VIEWS[view]
            (image,) = view_images(read_image(path), views, short_side, CROP)
            with torch.inference_mode():
                pooled = SpatialPyramidPooling(PAPER_LEVELS)(self.backbone(image)[None])
            return {"row": pooled[0].numpy(force=True).astype(np.float16)}

        return cached_arrays(file, compute)["row"].astype(np.float32)


def learn(
    features: Matrix, targets: NDArray[np.int8], tested: Matrix, test_targets: NDArray[np.int8]
) -> dict[str, Any]:
    """Return C, chosen on a held-out part of the training images, and the average precisions and their mean."""
    held_out = np.arange(len(features)) % HOLD_OUT == 0
    fitted = [fit(features[~held_out], targets[~held_out], cost) for cost in COSTS]
    scores = [np.nanmean(precisions(svms, features[held_out], targets[held_out])) for svms in fitted]
    cost = COSTS[int(np.argmax(scores))]
    found = precisions(fit(features, targets, cost), tested, test_targets)
    return {"C": cost, "mAP": float(np.nanmean(found)), "AP": found}


def fit(features: Matrix, targets: NDArray[np.int8], cost: float) -> LinearSVMs:
    config = SVMConfig(loss="squared_hinge", C=cost, positive_weight=1.0, bias_multiplier=1.0)
    return solve_dual(config, features, targets)


def precisions(svms: LinearSVMs, features: Matrix, targets: NDArray[np.int8]) -> list[float]:
    """Return VOC07's average precision of each class, without images marked 0, like the devkit."""
    scores = svms.decision_function(features)
    found = []
    for k in range(targets.shape[1]):
        rows = np.flatnonzero(targets[:, k])
        hits = targets[rows[np.argsort(-scores[rows, k], kind="stable")], k] > 0
        found.append(average_precision(hits, int(hits.sum()), "voc07"))
    return found


def print_table(results: dict[str, dict[str, Any]]) -> None:
    def line(name: str, cells: Iterable[str]) -> None:
        print(f"{name:<40}" + "".join(f"{cell:>20}" for cell in cells))

    line("mAP, %", results)
    for row in ROWS:
        line(row, [f"{100 * rows[row]['mAP']:.2f}" for rows in results.values()])
    print("paper, table 6: 5,011 images of trainval, the 4,952 of test")
    line("", ("ZF-5 crop", "ZF-5, SPP crop", "SPP, whole 224", "SPP, whole 392", "Overfeat-7, 364"))
    for name, *cells in PAPER:
        line(name, cells)
