"""Answers to the exercises of notebook 3."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def answer_1(convolution: float, pooling: float, crop: float) -> int:
    """Return the smallest number of boxes for which SPP-net is faster."""
    # rounded, as 0.1 / 0.0125 need not be 8 exactly
    return math.floor(round(convolution / (crop - pooling), 9)) + 1


def answer_2(regions: NDArray[np.int64]) -> int:
    """Return the number of different regions."""
    return len(np.unique(regions, axis=0))


def answer_3(n_boxes: int, channels: int, levels: Sequence[int]) -> int:
    """Return the bytes of the features."""
    return n_boxes * sum(level * level for level in levels) * channels * 4
