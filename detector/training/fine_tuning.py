"""Fully connected layers trained on pooled features by stochastic gradient descent (paper, section 4.1).

The convolution is frozen, so features come from cached maps. A round pools boxes of some images at random scales
(release: spp_finetune) and trains on them in random order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.heads.fully_connected import FullyConnected, Softmax
from detector.runtime.progress import Progress, without_progress
from detector.training.gradient_descent import Batch, Descent, Schedule, by_kind

HELD_OUT_BOXES = 32
"""Boxes of an image held out that snapshots are judged by."""
_MOST_HELD_OUT = 250
"""Images whose boxes these are, at most: their features stay in memory."""


@dataclass(frozen=True)
class FineTuningSettings:
    """Constants of the training.

    ``width`` is that of fc6 and fc7. ``iterations`` are batches of ``batch_size`` boxes; the learning rate falls to a
    tenth at each of ``lr_steps``, fractions of them. Biases learn twice as fast and do not decay. A round takes
    ``boxes_per_image`` of ``images_per_round`` images. Every ``rounds_per_snapshot`` rounds the layers are scored
    on the images held out.
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
        """The rounds that make up all iterations."""
        n_rounds = max(1, round(self.iterations / batches_per_round))
        return Schedule(n_rounds, self.lr, self.lr_steps, self.momentum, self.seed, self.rounds_per_snapshot)

    def draw(self, n_images: int, number: int) -> tuple[NDArray[np.int64], np.random.Generator]:
        """The images of a round ``(n,)``, in random order, and the generator for all else that is random in it."""
        random = np.random.default_rng((self.seed, number))
        return random.permutation(n_images)[: self.images_per_round], random


class SampledImages(Protocol):
    """Images that give random boxes to learn from, the same ones for the same random state."""

    @property
    def n_features(self) -> int: ...
    @property
    def n_classes(self) -> int: ...
    def __len__(self) -> int: ...

    def sample(
        self, index: int, n_boxes: int, random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features ``(n, D)`` of at most ``n_boxes`` boxes and their labels ``(n,)``, background being K."""
        ...


@dataclass(frozen=True, eq=False)
class FineTuned:
    """Weights and biases of fc6 and fc7 after training, fc8 as a `Softmax`, and the loss on boxes held out."""

    fc6: tuple[NDArray[np.float16], NDArray[np.float32]]
    fc7: tuple[NDArray[np.float16], NDArray[np.float32]]
    fc8: Softmax
    held_out_loss: float

    def up_to(
        self, layer: str, precision: str = "float32", device: str = "cpu", beside_inputs: bool = False
    ) -> FullyConnected:
        """The layers up to "fc6" or "fc7"."""
        layers = [self.fc6] if layer == "fc6" else [self.fc6, self.fc7]
        weights, biases = zip(*layers, strict=True)
        return FullyConnected(weights, biases, precision, device, beside_inputs)


class FineTuning:
    """A training and its state on disk: `run` starts it or goes on with it."""

    def __init__(
        self,
        images: SampledImages,
        held_out: SampledImages,
        settings: FineTuningSettings,
        checkpoint: Path,
        precision: str = "float32",
        device: str = "cpu",
        start: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]] = (),
    ) -> None:
        network = build_layers(images.n_features, images.n_classes, settings, start).to(device)
        groups = by_kind(network, settings.weight_decay)
        batches = _Batches(images, held_out, settings, getattr(torch, precision), torch.device(device))
        self.title = f"fine-tuning, batches x {batches.per_round}"
        schedule = settings.schedule(batches.per_round)
        self.descent = Descent(network, groups, batches, schedule, checkpoint, precision, device)

    def run(self, progress: Progress = without_progress) -> FineTuned:
        """`Descent.run`."""
        best = self.descent.run(progress, self.title)
        values = {name: tensor.numpy(force=True) for name, tensor in best.items()}
        fc6, fc7 = ((values[f"{i}.weight"].astype(np.float16), values[f"{i}.bias"]) for i in (0, 3))
        softmax = Softmax(np.ascontiguousarray(values["6.weight"].T), values["6.bias"])
        return FineTuned(fc6, fc7, softmax, self.descent.lowest)


def build_layers(
    n_features: int,
    n_classes: int,
    settings: FineTuningSettings,
    start: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]] = (),
) -> nn.Sequential:
    """fc6, fc7 and fc8: ``(n, n_features)`` -> ``(n, n_classes + 1)``, drawn by the seed but for those in ``start``."""
    width, dropout = settings.width, settings.dropout
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        sizes = (n_features, width), (width, width), (width, n_classes + 1)
        fc6, fc7, fc8 = (nn.Linear(*size) for size in sizes)
        for layer in (fc6, fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.normal_(fc8.weight, std=0.01)
        for layer in (fc6, fc7, fc8):
            nn.init.zeros_(layer.bias)
    for layer, (weights, biases) in zip((fc6, fc7), start, strict=False):
        layer.load_state_dict({"weight": torch.from_numpy(weights), "bias": torch.from_numpy(biases)})
    return nn.Sequential(fc6, nn.ReLU(), nn.Dropout(dropout), fc7, nn.ReLU(), nn.Dropout(dropout), fc8)


class _Batches:
    """Rounds of boxes of some images, mixed."""

    def __init__(
        self,
        images: SampledImages,
        held_out: SampledImages,
        settings: FineTuningSettings,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.images, self.judges, self.settings = images, held_out, settings
        self.dtype, self.device = dtype, device
        boxes = min(settings.images_per_round, len(images)) * settings.boxes_per_image
        self.per_round = max(1, boxes // settings.batch_size)

    def round(self, number: int) -> Iterator[Batch]:
        chosen, random = self.settings.draw(len(self.images), number)
        features, labels = self._sampled(self.images, chosen, random, self.settings.boxes_per_image)
        for rows in torch.randperm(len(labels)).split(self.settings.batch_size):
            yield features[rows].to(self.device), labels[rows]

    def held_out(self) -> Sequence[Batch]:
        random = np.random.default_rng(self.settings.seed)
        chosen = np.arange(0, len(self.judges), -(-len(self.judges) // _MOST_HELD_OUT))
        features, labels = self._sampled(self.judges, chosen, random, HELD_OUT_BOXES)
        parts = zip(features.split(1024), labels.split(1024), strict=True)
        return [(values.to(self.device), own) for values, own in parts]

    def _sampled(
        self, images: SampledImages, chosen: NDArray[np.int64], random: np.random.Generator, n_boxes: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.empty(len(chosen) * n_boxes, images.n_features, dtype=self.dtype)
        labels = torch.empty(len(features), dtype=torch.int64)
        end = 0
        for index in chosen:
            values, own = images.sample(int(index), n_boxes, random)
            start, end = end, end + len(own)
            features[start:end] = torch.from_numpy(values)
            labels[start:end] = torch.from_numpy(own)
        return features[:end], labels[:end]
