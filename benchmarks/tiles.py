"""Small objects with and without tiles, on mosaics of VOC images; time and memory of a large photograph.

A mosaic is a square grid of photographs, seen at 640 pixels of its longer side: objects of up to 32 pixels there count.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from detector.boxes import area
from detector.cli.console import progress, write_json
from detector.cli.options import tiles
from detector.cli.outputs import output_numbers
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.loading import load_voc
from detector.datasets.readers.voc import VOC_CLASSES
from detector.detections import Detections
from detector.evaluation.bootstrap import standard_error_of_difference
from detector.evaluation.held_out import measure_held_out
from detector.images.files import read_image
from detector.pipeline import Detector

SMALL, SEEN_AT = 32, 640
CELL = (375, 500)
"""Height and width of a photograph in a mosaic."""
PHOTOGRAPH = (3000, 4000)
MAX_DETECTIONS = 500


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as val")
    parser.add_argument("--mosaics", type=int, default=50, metavar="N", help="number of mosaics (default: 50)")
    parser.add_argument("--grid", type=int, default=3, metavar="G", help="photographs along a side (default: 3)")
    parser.add_argument("--tiles", type=tiles, default="auto", metavar="T", help="tiles of the mosaics (default: auto)")
    parser.add_argument("--model", type=Path, help="model file (default: that of the package)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="of the times (default: 5)")
    parser.add_argument("--json", type=output_numbers, metavar="FILE", help="write the numbers to FILE")


def measure(options: argparse.Namespace) -> int:
    model = Detector.load(options.model)
    dataset = load_voc(options.voc, options.split, VOC_CLASSES)
    n_used = options.mosaics * options.grid**2
    if n_used > len(dataset):
        raise ValueError(f"{options.mosaics} mosaics need {n_used} images, but {options.split} has {len(dataset)}")
    order = np.random.default_rng(0).permutation(len(dataset))[:n_used].reshape(options.mosaics, -1)
    annotations: list[Annotation] = []
    found: dict[str, list[Detections]] = {"without tiles": [], "with tiles": []}
    for rows in progress(order, "mosaics"):
        image, annotation = mosaic([dataset[int(row)] for row in rows], options.grid)
        annotations.append(annotation)
        for name, cut in (("without tiles", 1), ("with tiles", options.tiles)):
            min_score = model.config.detection.min_score
            found[name].append(model.detect(image, tiles=cut, min_score=min_score, max_detections=MAX_DETECTIONS))
    images = Dataset(tuple(annotations), VOC_CLASSES, f"{options.mosaics} mosaics")
    results = {name: measure_held_out(each, images, "area") for name, each in found.items()}
    print(f"{machine()}\n{options.mosaics} mosaics of {options.grid} x {options.grid} images of {dataset.name}")
    n_small = sum(int((~each.difficult).sum()) for each in annotations)
    print(f"mAP of {n_small} objects below {SMALL} px, at {SEEN_AT} px of the image:")
    for name, result in results.items():
        print(f"  {name:<14} {100 * result.mAP:5.1f}")
    without, with_tiles = results.values()
    error = standard_error_of_difference(without.resampled[:, None], with_tiles.resampled[:, None])
    print(f"  difference     {100 * (with_tiles.mAP - without.mAP):+5.1f} ± {100 * error:.1f}")
    photograph, _ = mosaic([dataset[int(row)] for row in order.ravel()[: options.grid**2]], options.grid)
    photograph = cv2.resize(photograph, PHOTOGRAPH[::-1], interpolation=cv2.INTER_CUBIC)
    seconds = {n: seconds_of(model, photograph, n, options.repeats) for n in (1, 12)}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for n, (wall, processor) in seconds.items():
        print(f"12 megapixels, {n} tiles: {wall:.2f} s, {processor:.2f} s of processor time")
    print(f"largest memory of all of this: {memory / 1e9:.2f} GB")
    if options.json is not None:
        numbers = {name: result.mAP for name, result in results.items()}
        times = {str(n): each for n, each in seconds.items()}
        write_json(options.json, {"machine": machine(), "mAP": numbers, "seconds": times, "memory": memory})
    return 0


def seconds_of(model: Detector, image: NDArray[np.uint8], n_tiles: int, repeats: int) -> tuple[float, float]:
    """Return medians of the wall and processor time of detection in an image, after one that warms up."""
    model.detect(image, tiles=n_tiles)
    times = []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        model.detect(image, tiles=n_tiles)
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, processor = np.median(times, axis=0).tolist()
    return wall, processor


def mosaic(parts: Sequence[Annotation], grid: int) -> tuple[NDArray[np.uint8], Annotation]:
    """Return a grid of photographs, each resized to `CELL`, and its objects; all but small ones are difficult."""
    height, width = CELL
    image = np.zeros((grid * height, grid * width, 3), np.uint8)
    boxes = []
    for number, each in enumerate(parts):
        y, x = number // grid * height, number % grid * width
        photograph = read_image(each.path)
        zooms = np.array([width / photograph.shape[1], height / photograph.shape[0]] * 2, np.float32)
        image[y : y + height, x : x + width] = cv2.resize(photograph, (width, height), interpolation=cv2.INTER_AREA)
        boxes.append(each.boxes * zooms + np.array([x, y, x, y], np.float32))
    all_boxes = np.concatenate(boxes)
    sides = np.sqrt(area(all_boxes)) * SEEN_AT / max(image.shape[:2])
    difficult = np.concatenate([each.difficult for each in parts]) | (sides >= SMALL)
    annotation = replace(
        parts[0],
        image_id=" ".join(each.image_id for each in parts),
        boxes=all_boxes,
        labels=np.concatenate([each.labels for each in parts]),
        difficult=difficult,
    )
    return image, annotation
