"""Slow, obvious twins of the fast kernels: loops over single bins, cells, boxes and samples, in exact arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Annotation
from detector.detections import Detections


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """IoU of two half-open boxes."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def bins(size: int, level: int) -> list[range]:
    """Cells of every bin of a level over a window of ``size`` cells: floor(i h / n) .. ceil((i + 1) h / n)."""
    return [range(floor(Fraction(i * size, level)), ceil(Fraction((i + 1) * size, level))) for i in range(level)]


def pyramid_pool(
    feature_map: NDArray[np.float32], windows: NDArray[np.int64], levels: Sequence[int]
) -> NDArray[np.float32]:
    """Spatial pyramid pooling, one bin at a time: ``(R, n_bins, C)``."""
    rows = []
    for x1, y1, x2, y2 in windows:
        window = feature_map[y1:y2, x1:x2]
        rows.append(
            [
                max_over(window, cells_y, cells_x)
                for level in levels
                for cells_y in bins(window.shape[0], level)
                for cells_x in bins(window.shape[1], level)
            ]
        )
    n_bins = sum(level * level for level in levels)
    return np.array(rows, np.float32).reshape(len(windows), n_bins, feature_map.shape[2])


def max_over(window: NDArray[np.float32], cells_y: range, cells_x: range) -> NDArray[np.float32]:
    """Largest value of each channel over a bin."""
    return np.array(
        [max(window[y, x, channel] for y in cells_y for x in cells_x) for channel in range(window.shape[2])]
    )


def covered_cells(
    start: Fraction, end: Fraction, stride: int, offset: Fraction, n_cells: int, margin: Fraction
) -> tuple[int, int]:
    """First and last cell of one side of a box, by looking at every cell far beyond both ends of the map."""
    reach = range(-1000, 1000)
    inside = [k for k in reach if start - margin < offset + k * stride < end + margin]
    if inside:
        first, last = inside[0], inside[-1]
    else:
        # the last center not right of the box and the first one not left of it
        after = min(k for k in reach if offset + k * stride >= end + margin)
        before = max(k for k in reach if offset + k * stride <= start - margin)
        first = last = floor(Fraction((before + 1) + (after - 1), 2))
    return min(max(first, 0), n_cells - 1), min(max(last, 0), n_cells - 1)


def svm_objective(
    weights: NDArray[Any], bias: float, samples: NDArray[Any], targets: NDArray[Any], problem: Any
) -> float:
    """The problem of one class, a sample at a time."""
    total = float((weights.astype(np.float64) ** 2).sum() + (bias / problem.bias_multiplier) ** 2) / 2
    for sample, target in zip(samples.astype(np.float64), targets, strict=True):
        if target == 0:
            continue
        hinge = max(0.0, 1.0 - float(target) * (float(sample @ weights) + bias))
        loss = hinge if problem.loss == "hinge" else hinge**2
        total += problem.C * (problem.positive_weight if target > 0 else 1.0) * loss
    return total


def slow_voc(
    truths: Sequence[Annotation], detections: Sequence[Detections], label: int, metric: str, min_iou: Fraction
) -> float:
    """VOCevaldet.m, read line by line, in exact fractions."""
    rows = []
    for truth, each in zip(truths, detections, strict=True):
        for box, its_label, score in zip(each.boxes, each.labels, each.scores, strict=True):
            if its_label == label:
                rows.append((float(score), truth, box))
    rows.sort(key=lambda row: -row[0])
    taken = set()
    n_true, n_false = 0, 0
    curve = []
    for _, truth, box in rows:
        best, best_row = Fraction(-1), -1
        for row in np.flatnonzero(truth.labels == label):
            overlap = slow_iou(box, truth.boxes[row])
            if overlap > best:
                best, best_row = overlap, int(row)
        if best < min_iou:
            n_false += 1
        elif truth.difficult[best_row]:
            continue
        elif (truth.image_id, best_row) in taken:
            n_false += 1
        else:
            taken.add((truth.image_id, best_row))
            n_true += 1
        curve.append((n_true, Fraction(n_true, n_true + n_false)))
    n_objects = sum(int(((truth.labels == label) & ~truth.difficult).sum()) for truth in truths)
    if n_objects == 0:
        return float("nan")
    if metric == "voc07":
        tenths = [max([p for n, p in curve if Fraction(n, n_objects) >= Fraction(k, 10)], default=0) for k in range(11)]
        return float(Fraction(sum(tenths)) / 11)
    steps = [max([p for n, p in curve if n >= level], default=0) for level in range(1, n_objects + 1)]
    return float(Fraction(sum(steps)) / n_objects)


def slow_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> Fraction:
    ax1, ay1, ax2, ay2 = (Fraction(float(value)) for value in a)
    bx1, by1, bx2, by2 = (Fraction(float(value)) for value in b)
    width, height = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
    shared = max(width, Fraction(0)) * max(height, Fraction(0))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
    return shared / union if union else Fraction(0)
