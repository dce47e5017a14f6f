"""Answers to the exercises of notebook 5."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, iou


def answer_1(box: Boxes, target: Boxes) -> list[float]:
    """Return the deltas."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = box.tolist(), target.tolist()
    width, height = x2 - x1, y2 - y1
    across = ((u1 + u2) / 2 - (x1 + x2) / 2) / width
    down = ((v1 + v2) / 2 - (y1 + y2) / 2) / height
    return [across, down, float(np.log((u2 - u1) / width)), float(np.log((v2 - v1) / height))]


def answer_2(boxes: Boxes, scores: NDArray[np.float32], limit: float) -> list[int]:
    """Return the boxes that are kept."""
    kept: list[int] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        if not (iou(boxes[[row]], boxes[kept]) > limit).any():
            kept.append(row)
    return kept


def answer_3(boxes: Boxes, kept: NDArray[np.int64], row: int, limit: float) -> int:
    """Return the suppressor of a box."""
    if row in kept:
        return -1
    return next(int(k) for k in kept if iou(boxes[[row]], boxes[[k]]).item() > limit)
