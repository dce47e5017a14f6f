"""The constants that fully connected layers and convolutions are fine-tuned by (release: spp_finetune)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.config.detector import FineTuningConfig
from detector.training.gradient_descent import Schedule

VALIDATION_BOXES = 32
"""Boxes of a validation image that snapshots are compared on."""


@dataclass(frozen=True)
class FineTuningSettings:
    """Constants of a fine-tuning.

    width: of fc6 and fc7.
    iterations: batches of ``batch_size`` boxes.
    lr, lr_steps: the learning rate, and the fractions of all iterations at which it falls to a tenth.
    images_per_round, boxes_per_image: what a round takes boxes from, and how many of each.
    rounds_per_snapshot: how often the layers are scored on the validation images.
    """

    width: int
    iterations: int
    lr: float
    lr_steps: Sequence[float]
    momentum: float
    weight_decay: float
    dropout: float
    batch_size: int
    seed: int
    images_per_round: int = 64
    boxes_per_image: int = 64
    rounds_per_snapshot: int = 15

    def schedule(self, batches_per_round: int) -> Schedule:
        """The rounds that make up all iterations, and their learning rates."""
        n_rounds = max(1, round(self.iterations / batches_per_round))
        drops = [sum(number / n_rounds < step for number in range(n_rounds)) for step in self.lr_steps]
        return Schedule(n_rounds, self.lr, drops, self.seed)

    def draw(self, n_images: int, number: int) -> tuple[NDArray[np.int64], np.random.Generator]:
        """The images of a round ``(n,)``, in random order, and the generator for all else that is random in it."""
        random = np.random.default_rng((self.seed, number))
        return random.permutation(n_images)[: self.images_per_round], random


def fine_tuning_settings(config: FineTuningConfig) -> FineTuningSettings:
    """The constants that a recipe gives."""
    return FineTuningSettings(
        width=config.width,
        iterations=config.iterations,
        lr=config.lr,
        lr_steps=config.lr_steps,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        dropout=config.dropout,
        batch_size=config.batch_size,
        seed=config.seed,
    )
