"""All tables of the paper in kind, on VOC2007 and this processor, and a page with the paper's numbers beside them.

Images, epochs and iterations are the --fraction of a whole run, which takes a night on two cores. Finished steps in
--results are not measured again, and a killed step resumes from its caches in --work. The page is written after every
step; tables that could not be measured say why.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks import classify, classify_scratch, rcnn
from benchmarks.crops import MEAN as NETWORKS
from benchmarks.machine import machine
from benchmarks.paper_page import page
from benchmarks.rcnn_methods import FIVE
from benchmarks.subsets import Results
from benchmarks.trained_methods import Trained, precision_of, train_method
from detector.backbones.backbone import load_backbone
from detector.cli.console import progress
from detector.cli.outputs import OutputFile, begins, cache_folder
from detector.config.detector import Config, parse_config
from detector.datasets.dataset import Dataset
from detector.datasets.loading import load_voc
from detector.ensemble import Ensemble
from detector.runtime.files import fingerprint, write_text

ONE = (688,)
FIRST_LINE = b"# The paper's tables"
SCRATCH_EPOCHS, SCRATCH_SEEDS = 8, 3
ITERATIONS = 6000
CROPPED_TRAIN, CROPPED_TEST, CROPPED_BOXES = 500, 250, 500
"""Images and proposals of a whole comparison with R-CNN, which convolves each box."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", default="val", help="images to test on (default: val)")
    parser.add_argument("--train-split", default="train", help="images to train on (default: train)")
    parser.add_argument("--fraction", type=_fraction, default=1.0, metavar="F", help="of images and steps (default: 1)")
    parser.add_argument(
        "--backbone", choices=list(NETWORKS), default="efficientnet_lite0", help="network (default: efficientnet_lite0)"
    )
    parser.add_argument("--weights", metavar="FILE", help="safetensors file of it (default: ImageNet's)")
    parser.add_argument(
        "--second", default="alexnet", metavar="NAME[=FILE]", help="network to combine with it (default: alexnet)"
    )
    parser.add_argument(
        "--steps", nargs="+", choices=list(STEPS), default=list(STEPS), metavar="STEP", help="only these"
    )
    parser.add_argument("--work", type=cache_folder, default=Path("cache/paper"), metavar="DIR", help="cache directory")
    parser.add_argument(
        "--results", type=OutputFile(begins(rb"\{")), required=True, metavar="FILE", help="file to keep the numbers in"
    )
    parser.add_argument("--page", type=OutputFile(begins(FIRST_LINE)), metavar="FILE", help="write the page (Markdown)")


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, but is {text}")
    return value


def measure(options: argparse.Namespace) -> int:
    job = Job(options)
    results = Results(options.results)
    found: dict[str, Any] = {}
    for name in options.steps:
        key = f"{name} {job.key}"
        if key not in results.numbers:
            print(f"{name} ..", flush=True)
            start = time.monotonic()
            try:
                numbers = STEPS[name](job)
            except (ValueError, OSError) as error:
                print(f"{name}: not measured: {error}", flush=True)
                found[name] = {"reason": str(error)}
                continue
            results.keep(key, {**numbers, "minutes": (time.monotonic() - start) / 60})
        found[name] = results.numbers[key]
        print(f"{name}: {found[name]['minutes']:.1f} minutes", flush=True)
        if options.page is not None:
            write_text(options.page, page(found, job.description))
    print(page(found, job.description))
    return 0


@dataclass(frozen=True)
class Job:
    """Data and sizes of a run."""

    options: argparse.Namespace

    @cached_property
    def train_set(self) -> Dataset:
        """The training images."""
        return self._part(self.options.train_split)

    @cached_property
    def test_set(self) -> Dataset:
        """The test images."""
        return self._part(self.options.split)

    def _part(self, split: str) -> Dataset:
        whole = load_voc(self.options.voc, split)
        return rcnn.first(whole, self.part_of(len(whole)))

    def part_of(self, count: int, minimum: int = 1) -> int:
        """Return the fraction of a number, at least ``minimum``."""
        return max(minimum, round(self.options.fraction * count))

    @cached_property
    def key(self) -> str:
        """Fingerprint of everything that changes the numbers."""
        options = self.options
        settings = {name: getattr(options, name) for name in ("fraction", "backbone", "weights", "second")}
        sets = [[each.image_id for each in dataset] for dataset in (self.train_set, self.test_set)]
        return fingerprint({**settings, "sets": sets})

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """Facts that the page begins with."""
        return {
            "machine": machine(),
            "train": len(self.train_set),
            "test": len(self.test_set),
            "fraction": self.options.fraction,
            "backbone": self.options.backbone,
            "second": self.options.second.partition("=")[0],
        }

    def network(self, second: bool = False) -> dict[str, Any]:
        """Return the keys of the network in a recipe."""
        if not second:
            return {"backbone": self.options.backbone, "weights": self.options.weights}
        name, _, weights = self.options.second.partition("=")
        return {"backbone": name, "weights": weights or None}

    def benchmark(self, module: ModuleType, *arguments: object) -> Any:
        """Run another benchmark on the same lists; return its numbers."""
        parser = argparse.ArgumentParser()
        module.add_options(parser)
        file = self.options.work / f"{module.__name__.rpartition('.')[2]}.json"
        lists = ("--voc", self.options.voc, "--split", self.options.split, "--train-split", self.options.train_split)
        module.measure(parser.parse_args([str(each) for each in (*lists, "--json", file, *arguments)]))
        return json.loads(file.read_text(encoding="utf-8"))

    def trained(self, scales: Sequence[int], layer: str, second: bool = False, regression: bool = False) -> Trained:
        """Train SVMs on a layer: "pooled", or a fine-tuned "fc6" or "fc7"."""
        tuned: dict[str, Any] = {"enabled": layer != "pooled", "iterations": self.part_of(ITERATIONS, 100)}
        content = {
            "features": self.network(second) | {"short_sides": list(scales)},
            "fine_tuning": tuned | ({"layer": layer} if layer != "pooled" else {}),
            "svm": {"loss": "squared_hinge", "center": True, "max_negatives_per_image": 40},
            "regression": {"enabled": regression},
            "calibration": {"enabled": False},
        }
        config: Config = parse_config(content, "a table of the paper")
        return train_method(config, self.train_set, self.test_set, self.options.work)


def architectures(job: Job) -> dict[str, Any]:
    """Measure table 1: maps of ZF-5, and of the network here."""
    rows = {}
    for name, weights in (("zf5", "random"), (job.options.backbone, job.options.weights)):
        backbone = load_backbone(name, weights=weights)
        geometry = backbone.geometry
        sides = [len(backbone.feature_map(np.zeros((side, side, 3), np.uint8))) for side in (224, 180)]
        rows[name] = {"channels": backbone.channels, "stride": geometry.stride, "sides": sides}
        rows[name] |= {"offset": geometry.offset, "receptive_field": geometry.receptive_field}
    return {"networks": rows}


def from_scratch(job: Job) -> dict[str, Any]:
    """Measure tables 2, 3 and 4: pyramids, sizes and views of networks that are trained from scratch."""
    arguments = ("--images", len(job.test_set), "--train-images", len(job.train_set), "--epochs", SCRATCH_EPOCHS)
    seeds = job.part_of(SCRATCH_SEEDS, 2)
    return job.benchmark(
        classify_scratch,
        *arguments,
        "--seeds",
        seeds,
        "--methods",
        *classify_scratch.METHODS,
        "--work",
        job.options.work,
    )


def frozen_features(job: Job) -> dict[str, Any]:
    """Measure tables 6 and 8: classification from frozen features."""
    network = "=".join(filter(None, (job.options.backbone, job.options.weights)))
    arguments = ("--images", len(job.test_set), "--train-images", len(job.train_set), "--network", network)
    return job.benchmark(classify, *arguments, "--cache", job.options.work / "classify")


def detection(job: Job) -> dict[str, Any]:
    """Measure tables 9 and 11: mAP by layer, scales and box regression, and AP by class of the last."""
    rows: dict[str, dict[str, Any]] = {}
    for title, scales in (("1", ONE), ("5", FIVE)):
        for layer in ("pooled", "fc6", "fc7"):
            trained = job.trained(scales, layer, regression=layer == "fc7")
            result = precision_of(trained.detections(job.test_set), job.test_set).to_json()
            if layer == "fc7":
                rows.setdefault("fc7, regression", {})[title] = result
                heads = replace(trained.detector.heads, regressors=())
                plain = replace(trained, detector=replace(trained.detector, heads=heads))
                result = precision_of(plain.detections(job.test_set), job.test_set).to_json()
            rows.setdefault(layer, {})[title] = result
    return {"rows": rows}


def against_rcnn(job: Job) -> dict[str, Any]:
    """Measure table 10: R-CNN with the same network, its precision and its time."""
    weights = ("--weights", job.options.weights) if job.options.weights else ()
    return job.benchmark(
        rcnn,
        *("--backbone", job.options.backbone, *weights, "--max-boxes", CROPPED_BOXES, "--work", job.options.work),
        # the first 70 images of VOC2007 train show all classes
        *("--train-images", min(len(job.train_set), job.part_of(CROPPED_TRAIN, 100))),
        *("--images", min(len(job.test_set), job.part_of(CROPPED_TEST, 5))),
        *("--time-images", job.part_of(5, 2)),
    )


def combination(job: Job) -> dict[str, Any]:
    """Measure table 12: two networks, and both together."""
    models = [job.trained(ONE, "fc7", second, regression=True).detector for second in (False, True)]
    ensemble = Ensemble(models)
    lowest = models[0].config.detection.min_score
    alone = [
        [model.detect(each.path, min_score=lowest) for each in progress(job.test_set, "detect")] for model in models
    ]
    both = [ensemble.detect(each.path, min_score=lowest) for each in progress(job.test_set, "detect")]
    names = (job.options.backbone, job.description["second"], "both")
    found = zip(names, (*alone, both), strict=True)
    return {"rows": {name: precision_of(each, job.test_set).to_json() for name, each in found}}


STEPS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "architectures": architectures,
    "from-scratch": from_scratch,
    "frozen-features": frozen_features,
    "detection": detection,
    "rcnn": against_rcnn,
    "combination": combination,
}
