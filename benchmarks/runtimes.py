"""Convolution of the default network by torch and by OpenVINO, alternating, on the same images.

Median wall and CPU seconds by the shorter side of an image, without resizing, after one warm-up per image and size.
Also measures the difference of the maps.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from detector.backbones.backbone import Backbone, load_backbone
from detector.cli.console import progress
from detector.datasets.loading import load_voc
from detector.images.files import read_image
from detector.images.resizing import resize_short_side
from detector.runtime.openvino import Runtime
from detector.runtime.threads import thread_count

RUNTIMES: tuple[Runtime, ...] = ("torch", "openvino")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as val")
    parser.add_argument("--images", type=int, default=10, metavar="N", help="only the first N images (default: 10)")
    parser.add_argument("--stage", help="stage of the feature map (default: the last)")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="(default: float32)")
    parser.add_argument(
        "--scales", type=int, nargs="+", default=[480, 560, 688], metavar="S", help="(default: 480 560 688)"
    )


def measure(options: argparse.Namespace) -> int:
    dataset = load_voc(options.voc, options.split)
    images = [read_image(each.path) for each in dataset[: options.images]]
    backbones = []
    for runtime in RUNTIMES:
        backbone = load_backbone("efficientnet_lite0", options.stage, precision=options.precision, runtime=runtime)
        if backbone.runtime != runtime:
            raise ValueError(f"{runtime} cannot compute the network in {options.precision} here")
        backbones.append(backbone)
    print(
        f"{machine()}\n{len(images)} images of {dataset.name}, {options.precision}, {thread_count()} threads; medians"
    )
    print(f"{'':<8}" + "".join(f"{f'{name}, s':>12}{'cpu, s':>9}" for name in RUNTIMES) + f"{'part':>7}{'differ':>9}")
    for short_side in options.scales:
        times, difference = compare(
            backbones, [resize_short_side(image, short_side)[0] for image in images], short_side
        )
        medians = np.median(times, axis=0)
        columns = "".join(f"{wall:>12.3f}{processor:>9.3f}" for wall, processor in medians)
        print(f"{short_side:>5} px{columns}{medians[1, 0] / medians[0, 0]:>7.2f}{difference:>9.0e}", flush=True)
    return 0


def compare(
    backbones: list[Backbone], images: list[NDArray[np.uint8]], short_side: int
) -> tuple[NDArray[np.float64], float]:
    """Return wall and CPU seconds ``(n, 2, 2)`` of each image by each backbone, and the maximum difference of maps."""
    times, difference = [], 0.0
    for image in progress(images, f"{short_side} px"):
        maps = [backbone.feature_map(image) for backbone in backbones]
        difference = max(difference, float(np.abs(maps[1] - maps[0]).max() / np.abs(maps[0]).max()))
        times.append([seconds(backbone, image) for backbone in backbones])
    return np.array(times), difference


def seconds(backbone: Backbone, image: NDArray[np.uint8]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    backbone.feature_map(image)
    return time.perf_counter() - wall, time.process_time() - processor
