"""Cost of many images on many machines: measured on this one, predicted for up to 1,000 nodes.

Measures seconds of one thread and bytes per image in each step, images per second with one worker, two workers and one
by one, and items without work. Predicts from them the time of 10^4 to 10^8 images on 1 to 1,000 nodes, and the
bottleneck.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from detector.boxes import iou
from detector.cli.detect import factory_of, parser
from detector.config.detector import SVMConfig
from detector.datasets.dataset import Annotation
from detector.datasets.loading import load_voc
from detector.datasets.readers.voc import VOC_CLASSES
from detector.images.files import read_image
from detector.parallel.map_images import Engine, Factory, Sequential, Threads, map_images
from detector.parallel.processes import Processes
from detector.pipeline import Detector

IMAGES = (10**4, 10**5, 10**6, 10**7, 10**8)
NODES = (1, 10, 100, 1000)
START_SECONDS = 20.0
"""Start of a worker: load a model, read kernels."""


@dataclass(frozen=True)
class Step:
    """Cost per image: seconds of a worker's thread, bytes read from storage, bytes sent to the driver."""

    name: str
    seconds: float
    read: float
    sent: float


@dataclass(frozen=True)
class Cluster:
    """Workers per node, bytes per second of the driver's network and of the storage, items per second of the driver."""

    workers: int
    network: float
    storage: float
    items: float


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as val")
    parser.add_argument("--images", type=int, default=40, metavar="N", help="only the first N images (default: 40)")
    parser.add_argument("--ray", action="store_true", help="also measure Ray's actors")
    parser.add_argument("--items", type=int, default=20_000, metavar="N", help="items without work (default: 20000)")
    parser.add_argument("--workers", type=int, default=16, metavar="N", help="workers per predicted node (default: 16)")
    parser.add_argument(
        "--network", type=float, default=10, metavar="GBIT", help="network of the driver (default: 10 Gbit/s)"
    )
    parser.add_argument(
        "--storage", type=float, default=2, metavar="GB", help="throughput of the storage (default: 2 GB/s)"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw time against nodes")


def measure(options: argparse.Namespace) -> int:
    dataset = load_voc(options.voc, options.split, VOC_CLASSES)[: options.images]
    print(f"{machine()}\n{len(dataset)} images of {dataset.name}")
    steps = step_costs(Detector.load(), dataset)
    for step in steps:
        read, sent = step.read / 1e6, step.sent / 1e3
        print(f"{step.name:<9} {step.seconds:7.3f} s, reads {read:6.2f} MB, sends {sent:7.1f} kB")
    names = [str(each.path) for each in dataset]
    engines: dict[str, Engine] = {
        "one by one": Sequential(),
        "lanes": Threads(),
        "1 worker": Processes(1),
        "2 workers": Processes(2),
    }
    if options.ray:
        from detector.parallel.ray_actors import RayActors

        engines["2 Ray actors"] = RayActors(2)
    rates = {name: rate(detection(), names, engine) for name, engine in engines.items()}
    for name, images in rates.items():
        print(f"{name:<13} {images:6.2f} images per second, {images / rates['one by one']:.2f} times one by one")
    seam = rate(Nothing(), range(options.items), Processes(2))
    print(f"without work  {seam:6.0f} items per second")
    cluster = Cluster(options.workers, options.network * 1e9 / 8, options.storage * 1e9, seam)
    for step in steps:
        print_prediction(step, cluster)
    if options.plot is not None:
        from benchmarks.plot import plot_hours

        measured = {1: 1 / rates["1 worker"], 2: 1 / rates["2 workers"]}
        tables = {each.name: predicted(each, cluster) for each in steps}
        plot_hours(options.plot, tables, NODES, options.workers, measured)
    return 0


def detection() -> Factory:
    """Return the factory of detection with the shipped model."""
    return factory_of(parser().parse_args(["--min-score", "0", "IMAGE"]))


class Nothing:
    """Factory of work that takes no time."""

    def __call__(self) -> Callable[[Any], Any]:
        return lambda item: item


def rate(factory: Callable[[], Any], items: Iterable[Any], engine: Engine) -> float:
    """Return items per second from the first result on, without the start of the workers."""
    results = map_images(factory, items, engine)
    next(results)
    start = time.perf_counter()
    count = sum(1 for _ in results)
    return count / (time.perf_counter() - start)


def step_costs(detector: Detector, annotations: Sequence[Annotation]) -> list[Step]:
    """Return mean costs over the images, on one thread."""
    detect = detection()()
    detect(str(annotations[0].path))  # compiles
    rows = [row for _, row in map_images(lambda: partial(_costs, detector, detect), annotations, Threads(1))]
    names = ("detect", "cache", "mine", "evaluate")
    means = np.mean(rows, axis=0)
    return [Step(name, *each) for name, each in zip(names, means.tolist(), strict=True)]


def _costs(detector: Detector, detect: Any, annotation: Annotation) -> list[tuple[float, float, float]]:
    """Return seconds, bytes read and bytes sent of each step for an image."""
    size = annotation.path.stat().st_size
    start = time.perf_counter()
    found = detect(str(annotation.path))
    detected = time.perf_counter() - start

    start = time.perf_counter()
    image = read_image(annotation.path)
    boxes = detector.propose(image)
    maps = detector.encoder.maps(image)
    cached = time.perf_counter() - start
    kept = sum(each.size * 2 for each in maps.maps) + boxes.nbytes

    start = time.perf_counter()
    scores = detector.encoder.apply(detector.heads.decision_function, maps, detector.encoder.regions(maps, boxes))
    mined = time.perf_counter() - start
    config = SVMConfig()
    far = iou(boxes, annotation.boxes).max(1, initial=0) < 0.3
    hard = min(int((scores.max(1)[far] > config.add_above).sum()), config.max_negatives_per_image)

    n_features = detector.encoder.n_features if detector.heads.layers is None else detector.heads.layers.n_features
    record = len(str(found.to_record("")))
    return [
        (detected, size, record),
        (cached, size, 100.0),
        (mined, kept, hard * 2.0 * n_features),
        (detected, size, record),
    ]


def predicted(step: Step, cluster: Cluster) -> dict[tuple[int, int], tuple[float, str]]:
    """Return seconds and the bottleneck by number of images and nodes; the slowest of parallel parts."""
    table = {}
    for images in IMAGES:
        for nodes in NODES:
            parts = {
                "workers": images * step.seconds / (nodes * cluster.workers),
                "driver": images / cluster.items,
                "network": images * step.sent / cluster.network,
                "storage": images * step.read / cluster.storage,
            }
            slowest = max(parts, key=lambda name: parts[name])
            table[images, nodes] = START_SECONDS + parts[slowest], slowest
    return table


def print_prediction(step: Step, cluster: Cluster) -> None:
    """Print a row per number of images and a column per number of nodes."""
    print(f"\n{step.name}: hours by nodes of {cluster.workers} workers, and the bottleneck")
    print(f"{'images':>9}" + "".join(f"{nodes:>20}" for nodes in NODES))
    table = predicted(step, cluster)
    for images in IMAGES:
        cells = [table[images, nodes] for nodes in NODES]
        print(f"{images:>9.0e}" + "".join(f"{seconds / 3600:>10.2f} {name:<9}" for seconds, name in cells))
