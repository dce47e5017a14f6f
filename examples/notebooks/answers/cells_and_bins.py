"""Answers to the exercises of notebook 2."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def answer_1(size: int, n: int) -> list[int]:
    """Return the number of cells of each bin."""
    return [math.ceil((i + 1) * size / n) - math.floor(i * size / n) for i in range(n)]


def answer_2(start: float, end: float, stride: int, offset: float, count: int) -> tuple[int, int]:
    """Return the first and the last cell, exclusive."""
    inside = [k for k in range(count) if start < offset + k * stride < end]
    return inside[0], inside[-1] + 1


def answer_3(window: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Return the maxima of the bins."""
    height, width = window.shape[:2]
    pooled = []
    for row in range(n):
        rows = slice(row * height // n, -(-(row + 1) * height // n))
        for column in range(n):
            columns = slice(column * width // n, -(-(column + 1) * width // n))
            pooled.append(window[rows, columns].max((0, 1)))
    return np.stack(pooled)
