"""Which images to label next: those that a detector doubts most, and no two that look alike.

Uncertainty sampling (Lewis and Gale 1994), with a greedy choice for variety.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.detections import Detections
from detector.features.encoder import FeatureMaps

Floats = NDArray[np.float32]

DOUBTED = 5
"""So many boxes of an image, the most doubtful ones, say how much it would teach: more make crowds win."""


def doubt(found: Detections) -> float:
    """How doubtful an image is, 0 to 1: the mean over its five most doubtful boxes, missing ones counting as 0.

    A box of probability p is worth ``4 p (1 - p)``; without calibration, of score s, ``1 - |s|`` inside of the margin.
    """
    if found.probabilities is not None:
        doubts = 4 * found.probabilities * (1 - found.probabilities)
    else:
        doubts = np.maximum(1 - np.abs(found.scores), 0)
    return float(np.sort(doubts)[::-1][:DOUBTED].sum() / DOUBTED)


def look(maps: FeatureMaps) -> Floats:
    """What an image looks like as a whole, ``(C,)`` float32: the mean of every channel of its finest feature map."""
    finest = max(maps.maps, key=lambda each: each.size)
    mean: Floats = finest.astype(np.float32).mean(axis=(0, 1))
    return mean


def choose(doubts: NDArray[np.float64], looks: Floats, count: int) -> list[int]:
    """Rows of at most ``count`` images, in the order of the choice.

    doubts: ``(N,)``, looks: ``(N, C)``. Each time the image is taken whose doubt, times its distance to the nearest one
    taken before, is greatest; of equals the first. The distance is 0 for equal looks and 1 for opposite ones: half of 1
    less the cosine of what they have more than the mean of all. The first image has no other: its distance is 1.
    """
    centered = looks - looks.mean(axis=0)
    lengths = np.linalg.norm(centered, axis=1, keepdims=True)
    directions = np.divide(centered, lengths, out=np.zeros_like(centered), where=lengths > 0)
    distances = np.ones(len(doubts))
    chosen: list[int] = []
    while len(chosen) < min(count, len(doubts)):
        worth = doubts * distances
        worth[chosen] = -1
        row = int(np.argmax(worth))
        chosen.append(row)
        distances = np.minimum(distances, np.clip((1 - directions @ directions[row]) / 2, 0, 1))
    return chosen
