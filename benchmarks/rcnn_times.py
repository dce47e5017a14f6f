"""Seconds of a detection by the methods of rcnn.py, step by step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.crops import CropEncoder
from benchmarks.rcnn_methods import METHODS, RCNN, encoder_of
from detector.boxes import Boxes
from detector.build import build_proposer
from detector.cli.console import progress
from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.heads.heads import Heads
from detector.heads.linear import LinearSVMs
from detector.images.files import read_image
from detector.pipeline import Detector
from detector.scoring import detect_in_inputs

STEPS = ("proposals", "convolution", "pooling", "pooling to detections")


def time_all(
    configs: Mapping[str, Config], svms: Mapping[str, LinearSVMs], dataset: Dataset, n_images: int
) -> dict[str, Any]:
    """Return the median seconds of every step; for each image all methods take turns."""
    propose = build_proposer(configs[RCNN].proposals)
    detectors = {
        name: Detector(
            propose, encoder_of(METHODS[name], config.features), Heads(svms[name]), dataset.class_names, config
        )
        for name, config in configs.items()
    }
    images = [read_image(each.path) for each in dataset[:n_images]]
    for method, detector in detectors.items():  # compiles and allocates
        step_seconds(detector, images[0], propose(images[0])[: None if METHODS[method].short_sides else 64])
    times: dict[str, list[list[float]]] = {method: [] for method in configs}
    n_boxes = []
    for image in progress(images, "times"):
        start = time.perf_counter()
        boxes = propose(image)
        proposals = time.perf_counter() - start
        n_boxes.append(len(boxes))
        for method, detector in detectors.items():
            times[method].append([proposals, *step_seconds(detector, image, boxes)])
    medians: dict[str, dict[str, float]] = {}
    for method, rows in times.items():
        table = np.array(rows)
        medians[method] = dict(zip(STEPS, np.median(table, axis=0).tolist(), strict=True))
        medians[method]["features"] = float(np.median(table[:, [1, 2]].sum(1)))
        medians[method]["everything"] = float(np.median(table[:, [0, 1, 3]].sum(1)))
    precision = detectors[RCNN].encoder.backbone.precision
    return {"images": len(images), "boxes": float(np.median(n_boxes)), "precision": precision, "medians": medians}


def step_seconds(detector: Detector, image: NDArray[np.uint8], boxes: Boxes) -> list[float]:
    """Return the seconds of convolution, pooling, and pooling to detections.

    R-CNN's crops are pooled batch by batch while they are convolved.
    """
    encoder = detector.encoder
    marks = [time.perf_counter()]
    maps = encoder.maps(image, boxes)
    marks.append(time.perf_counter())
    if not isinstance(encoder, CropEncoder):
        encoder.pool(maps, encoder.regions(maps, boxes))
    marks.append(time.perf_counter())
    detect_in_inputs([detector], [(maps, boxes)])
    marks.append(time.perf_counter())
    return np.diff(marks).tolist()
