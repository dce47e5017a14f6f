"""fc6 and fc7 of an ImageNet classifier, to begin fine-tuning with (paper, section 4.1)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from detector.features.pooling import n_bins
from detector.runtime.files import reading

Features = NDArray[np.float32]


def imagenet_layers(path: Path, levels: Sequence[int], n_channels: int) -> list[tuple[Features, Features]]:
    """Weights ``(n_out, n_in)`` and biases ``(n_out,)`` of fc6 and fc7, from a classifier that was trained on ImageNet.

    The safetensors file has the names of torchvision's AlexNet or VGG-16. Its first layer reads a map of n x n cells,
    channels before rows: it becomes the block of fc6 that reads the pyramid's level n; the other levels begin with
    zeros. Raises OSError where there is no such file and ValueError where it does not fit.
    """
    with reading(path), safe_open(path, framework="numpy") as file:
        found = (re.fullmatch(r"classifier\.(\d+)\.weight", name) for name in file.keys())  # noqa: SIM118 (not a dict)
        numbers = sorted(int(match[1]) for match in found if match)[:2]
        tensors = [tuple(file.get_tensor(f"classifier.{n}.{kind}") for kind in ("weight", "bias")) for n in numbers]
    if len(tensors) < 2:
        raise ValueError(f"{path}: has no layers classifier.*.weight")
    (fc6, bias), fc7 = tensors
    level = math.isqrt(fc6.shape[1] // n_channels)
    if level not in levels or level * level * n_channels != fc6.shape[1]:
        raise ValueError(
            f"{path}: fc6 reads {fc6.shape[1]} values; of {n_channels} channels that is none of the levels {levels}"
        )
    start = sum(each * each for each in levels[: list(levels).index(level)])
    weights = np.zeros((len(fc6), n_bins(levels), n_channels), np.float32)
    weights[:, start : start + level * level] = fc6.reshape(len(fc6), n_channels, -1).transpose(0, 2, 1)
    return [(weights.reshape(len(fc6), -1), bias.astype(np.float32)), tuple(each.astype(np.float32) for each in fc7)]
