"""Time of a warm detection, step by step.

Medians over the images of a split, in seconds of wall time, with the model loaded and all code compiled. With --beside,
also while other processes compute, and two detections in parallel against two in sequence.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from benchmarks.machine import machine
from benchmarks.other_work import busy_processes, convolution, convolution_on_one_thread, detections, two_in_parallel
from detector.datasets.loading import load_voc
from detector.datasets.readers.voc import VOC_CLASSES
from detector.features.encoder import RegionEncoder
from detector.images.files import read_image
from detector.pipeline import Detector
from detector.runtime.openvino import Runtime


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as val")
    parser.add_argument("--images", type=int, default=20, metavar="N", help="only the first N images (default: 20)")
    parser.add_argument("--scales", type=int, nargs="+", metavar="S", help="short sides other than the model's")
    parser.add_argument("--runtime", choices=get_args(Runtime), help="library of the network (default: auto)")
    parser.add_argument("--model", type=Path, help="model file (default: that of the package)")
    parser.add_argument("--beside", type=int, metavar="N", help="also measure while N other processes compute")


def measure(options: argparse.Namespace) -> int:
    dataset = load_voc(options.voc, options.split, VOC_CLASSES)
    detector = Detector.load(options.model, runtime=options.runtime)
    if options.scales:
        assert isinstance(detector.encoder, RegionEncoder)
        detector = replace(detector, encoder=replace(detector.encoder, short_sides=options.scales))
    images = [read_image(each.path) for each in dataset[: options.images]]
    detector.detect(images[0])
    print(f"{machine()}\n{len(images)} images of {dataset.name}")
    backbone = detector.encoder.backbone
    print(f"scales {list(detector.encoder.short_sides)}, {backbone.runtime}, {backbone.precision}; medians")
    print_steps(detections(detector, images))
    if options.beside is not None:
        alone = convolution_on_one_thread(detector, images)
        in_sequence, parallel = two_in_parallel(detector, images)
        with busy_processes(options.beside):
            print(f"\nwhile {options.beside} other processes compute")
            runs = detections(detector, images)
            print_steps(runs)
        meanwhile = float(np.median([convolution(times) for times in runs]))
        print(f"\nconvolution {meanwhile:.3f} s, alone on one thread {alone:.3f} s: {meanwhile / alone:.2f} times")
        ratio = parallel / in_sequence
        print(f"two detections in sequence {in_sequence:.3f} s, in parallel {parallel:.3f} s: {ratio:.2f} times")
    return 0


def print_steps(runs: Sequence[dict[str, float]]) -> None:
    """Print the median seconds of each step."""
    for name in dict.fromkeys(name for times in runs for name in times):
        print(f"{name:<22} {np.median([times.get(name, 0.0) for times in runs]):6.3f} s")
