"""Precision against time of one model with several detection settings.

A row per variant: its mAP (VOC2007), and median seconds of wall time by step, on the same images in the same run. Only
settings without training can vary: those of detection, and the scales.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from benchmarks.other_work import convolution
from detector.boxes import Boxes
from detector.cli.compare import changed
from detector.cli.console import progress
from detector.datasets.loading import load_voc
from detector.datasets.readers.voc import VOC_CLASSES
from detector.detections import Detections
from detector.evaluation.voc import evaluate_voc
from detector.features.encoder import RegionEncoder
from detector.images.files import read_image
from detector.pipeline import Detector
from detector.runtime.progress import timer, timings


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as val")
    parser.add_argument("--images", type=int, metavar="N", help="only the first N images (default: all)")
    parser.add_argument("--model", type=Path, help="model file (default: that of the package)")
    parser.add_argument(
        "--try",
        dest="variants",
        action="append",
        default=[],
        metavar="KEY=VALUE,...",
        help="a variant, such as detection.max_boxes=300,features.short_sides=[480]",
    )


@dataclass
class Variant:
    """A detector with other settings, with its detections and times so far."""

    name: str
    detector: Detector
    found: list[Detections] = field(default_factory=list)
    times: list[dict[str, float]] = field(default_factory=list)

    def detect(self, image: NDArray[np.uint8], boxes: Boxes) -> None:
        """Detect in an image, with ``(R, 4)`` boxes as proposals."""
        with timings() as times, timer("together"):
            self.found.append(self.detector.detect(image, boxes))
        self.times.append(times)


def measure(options: argparse.Namespace) -> int:
    base = Detector.load(options.model)
    variants = [variant(base, changes) for changes in ["", *options.variants]]
    dataset = load_voc(options.voc, options.split, VOC_CLASSES)[: options.images]
    proposing = []
    for annotation in progress(list(dataset), "images"):
        image = read_image(annotation.path)
        with timings() as times, timer("proposals"):
            boxes = base.propose(image)
        proposing.append(times["proposals"])
        for each in variants:
            each.detect(image, boxes)
    print(f"{machine()}\n{len(proposing)} images of {options.split}, {base.encoder.backbone.precision}")
    print(f"proposals {np.median(proposing):.3f} s, the same for all; medians of wall time")
    print(f"{'':<60}   mAP  convolution  the rest  together")
    for each in variants:
        result = evaluate_voc(each.found, list(dataset), VOC_CLASSES, "voc07")
        print(f"{each.name or 'as it is':<60} {100 * result.mAP:5.1f}{seconds(each.times, proposing)}")
    return 0


def variant(base: Detector, changes: str) -> Variant:
    """Return the model with changes to its recipe. Raises ValueError for changes that need training."""
    config = changed(base.config, changes)
    features = config.features.model_copy(update={"short_sides": base.config.features.short_sides})
    if config.model_copy(update={"features": features, "detection": base.config.detection}) != base.config:
        raise ValueError(f"--try {changes}: only detection and features.short_sides can change without a training")
    assert isinstance(base.encoder, RegionEncoder)
    encoder = replace(base.encoder, short_sides=config.features.short_sides)
    return Variant(changes, replace(base, encoder=encoder, config=config))


def seconds(times: Sequence[dict[str, float]], proposing: Sequence[float]) -> str:
    """Return columns of medians: convolution, the steps after it, and the total with proposals."""
    convolving = np.array([convolution(each) for each in times])
    together = np.array([each["together"] for each in times])
    columns = convolving, together - convolving, together + np.array(proposing)
    return "".join(f"{np.median(column):>{width}.3f}" for column, width in zip(columns, (13, 10, 10), strict=True))
