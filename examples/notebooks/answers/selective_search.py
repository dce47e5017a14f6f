"""Answers to the exercises of notebook 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.proposals.selective_search import Mode


def answer_1(size_a: int, box_a: Sequence[int], size_b: int, box_b: Sequence[int]) -> int:
    """Return the empty pixels of the common box."""
    width = max(box_a[2], box_b[2]) - min(box_a[0], box_b[0])
    height = max(box_a[3], box_b[3]) - min(box_a[1], box_b[1])
    return width * height - size_a - size_b


def answer_2(mode: Mode) -> int:
    """Return the number of groupings."""
    return len(mode.color_spaces) * len(mode.ks) * len(mode.similarities)


def answer_3(ranks: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the order of the boxes."""
    return np.argsort(ranks * np.random.default_rng(seed).random(len(ranks)), kind="stable")
