"""Recall of a model's proposal filter, compared with as many of the first proposals.

A row per number of boxes: recall in percent of objects that are not difficult, at IoU .5 and .7, of the boxes that the
filter keeps and of the first proposals; and the seconds of ranking.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from detector.boxes import Boxes, iou
from detector.datasets.loading import load_voc
from detector.datasets.readers.voc import VOC_CLASSES
from detector.images.files import read_image
from detector.pipeline import Detector

MIN_IOUS = (0.5, 0.7)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as val")
    parser.add_argument("--images", type=int, default=100, metavar="N", help="only the first N images (default: 100)")
    parser.add_argument("--model", type=Path, help="model file (default: that of the package)")
    parser.add_argument(
        "--boxes",
        type=int,
        nargs="+",
        default=[100, 200, 300, 500, 1000, 2000],
        metavar="R",
        help="numbers of boxes to keep (default: 100 to 2000)",
    )


def measure(options: argparse.Namespace) -> int:
    detector = Detector.load(options.model)
    if detector.heads.proposal_filter is None:
        raise ValueError(f"{options.model or 'the default model'} has no proposal filter")
    dataset = load_voc(options.voc, options.split, VOC_CLASSES)[: options.images]
    ranked: list[NDArray[np.float32]] = []
    first: list[NDArray[np.float32]] = []
    seconds = []
    for annotation in dataset:
        image = read_image(annotation.path)
        boxes = detector.propose(image)
        maps = detector.encoder.maps(image, boxes)
        start = time.perf_counter()
        scores = detector.heads.proposal_filter.scores(detector.encoder, maps, boxes)
        seconds.append(time.perf_counter() - start)
        objects = annotation.boxes[~annotation.difficult]
        ranked.append(best_overlaps(boxes[np.argsort(-scores, kind="stable")], objects, options.boxes))
        first.append(best_overlaps(boxes, objects, options.boxes))
    columns = [recalls(overlaps, min_iou) for min_iou in MIN_IOUS for overlaps in (ranked, first)]
    print(f"{machine()}\n{len(ranked)} images of {options.split}; ranking takes {np.median(seconds):.3f} s (median)")
    titles = [f"{kind} at {min_iou:.1f}" for min_iou in MIN_IOUS for kind in ("ranked", "first")]
    print(f"{'boxes':>6}" + "".join(f"{title:>15}" for title in titles))
    for number, row in zip(options.boxes, np.column_stack(columns), strict=True):
        print(f"{number:>6}" + "".join(f"{100 * value:>15.1f}" for value in row))
    return 0


def best_overlaps(boxes: Boxes, objects: Boxes, counts: Sequence[int]) -> NDArray[np.float32]:
    """Return the best IoU ``(N, len(counts))`` of ``(N, 4)`` objects with the first ``counts`` of ``(R, 4)`` boxes."""
    overlaps = iou(objects, boxes)
    return np.stack([overlaps[:, :count].max(1, initial=0) for count in counts], axis=1)


def recalls(overlaps: Sequence[NDArray[np.float32]], min_iou: float) -> NDArray[np.float64]:
    """Return the fraction of all objects whose best IoU is at least ``min_iou``, for each number of boxes."""
    return (np.concatenate(overlaps) >= min_iou).mean(0)
