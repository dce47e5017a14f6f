"""A warm detection with the default model, stage by stage.

Medians over the pictures of a split, in seconds of wall time, with the model loaded and all code compiled.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

from data.voc import VOC_CLASSES, load_voc
from detector.image import read_image
from detector.pipeline import Detector


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as val")
    parser.add_argument("--images", type=int, default=20, metavar="N", help="only the first N pictures (default: 20)")
    parser.add_argument("--model", type=Path, help="a model file (default: the one that comes with the package)")


def measure(options: argparse.Namespace) -> int:
    dataset = load_voc(options.voc, options.split, VOC_CLASSES)
    detector = Detector.load(options.model)
    images = [read_image(each.path) for each in list(dataset)[: options.images]]
    times = np.array([_stages(detector, image) for image in [images[0], *images]][1:])
    print(
        f"{len(images)} pictures of {dataset.name}; {platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__}"
    )
    print(f"scales {list(detector.encoder.short_sides)}, {detector.encoder.backbone.precision}")
    for name, column in zip(("proposals", "convolution", "pooling to detections"), times.T, strict=True):
        print(f"{name:<22} {np.median(column):6.3f} s")
    print(f"{'together':<22} {np.median(times.sum(1)):6.3f} s")
    return 0


def _stages(detector: Detector, image: np.ndarray) -> list[float]:
    """Seconds for proposals, convolution, and everything after."""
    marks = [time.perf_counter()]
    boxes = detector.propose(image)
    marks.append(time.perf_counter())
    maps = detector.encoder.maps(image)
    marks.append(time.perf_counter())
    detector.detect_in_maps(maps, boxes)
    marks.append(time.perf_counter())
    return np.diff(marks).tolist()
