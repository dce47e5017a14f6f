"""Fully connected layers trained on pooled features by stochastic gradient descent (paper, section 4.1).

The convolutions are frozen, so features come from cached maps; `network_tuning` trains them. A round pools boxes of
some images at random scales (release: spp_finetune) and trains on them in random order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import nn

from detector.config.detector import FineTuningConfig
from detector.features.encoder import Encoder, Features
from detector.features.pooling import n_bins
from detector.heads.fully_connected import FullyConnected, Softmax
from detector.runtime.files import reading
from detector.runtime.progress import Progress, without_progress
from detector.training.checkpoints import Checkpoint
from detector.training.gradient_descent import (
    Batch,
    GradientDescent,
    Schedule,
    Validation,
    parameter_groups,
    sgd,
    softmax_loss,
)
from detector.training.sampling import validation_split
from detector.training.training_set import TrainingSet, scaled

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


Layer = tuple[Features, Features]
"""Weights ``(n_out, n_in)`` and biases ``(n_out,)``."""

_MAX_VALIDATION_IMAGES = 250
"""Their features stay in memory."""
_VALIDATION_ROWS = 1024


class SampledImages(Protocol):
    """Images that give random boxes to learn from, the same ones for the same random state."""

    @property
    def n_features(self) -> int: ...
    @property
    def n_classes(self) -> int: ...
    def __len__(self) -> int: ...

    def sample(self, index: int, n_boxes: int, random: np.random.Generator) -> tuple[Features, NDArray[np.int64]]:
        """Features ``(n, D)`` of at most ``n_boxes`` boxes and their labels ``(n,)``, background being K."""
        ...


@dataclass(frozen=True, eq=False)
class TunedLayers:
    """Weights and biases of fc6 and fc7 after training, fc8 as a `Softmax`, and the loss on the validation boxes."""

    fc6: tuple[NDArray[np.float16], NDArray[np.float32]]
    fc7: tuple[NDArray[np.float16], NDArray[np.float32]]
    fc8: Softmax
    validation_loss: float

    def up_to(
        self,
        layer: str,
        precision: str = "float32",
        device: str = "cpu",
        beside_inputs: bool = False,
        runtime: str = "torch",
    ) -> FullyConnected:
        """The layers up to "fc6" or "fc7"; the rest is `FullyConnected`'s."""
        layers = [self.fc6] if layer == "fc6" else [self.fc6, self.fc7]
        weights, biases = zip(*layers, strict=True)
        return FullyConnected(weights, biases, precision, device, beside_inputs, runtime)


def tune_layers(
    images: TrainingSet, config: FineTuningConfig, checkpoint: Path, progress: Progress = without_progress
) -> TunedLayers:
    """Train fully connected layers on plain pooled features of ``images``, except for those to validate on.

    The state is kept in the file ``checkpoint``, from which a second call goes on. Raises ValueError for less than two
    images with objects.
    """
    encoder = images.cache.encoder
    learners, validation = validation_split(images, config)
    start = initial_layers(config, encoder)
    # values of about 1, centered: what random layers begin with best
    images = scaled(images, encoder.n_features**0.5, True, config.seed)
    learners, validation = replace(learners, images=images), replace(validation, images=images)
    if start:
        (fc6, biases), fc7 = start
        start = [(fc6 / images.scale, biases + fc6 @ images.mean), fc7]
    settings, precision, device = fine_tuning_settings(config), encoder.backbone.precision, str(encoder.backbone.device)
    tuned = LayerTuning(learners, validation, settings, checkpoint, precision, device, start).run(progress)
    weights, biases = images.unscaled(tuned.fc6[0].T.astype(np.float32), tuned.fc6[1])
    return replace(tuned, fc6=(np.ascontiguousarray(weights.T).astype(np.float16), biases))


def initial_layers(config: FineTuningConfig, encoder: Encoder) -> list[Layer]:
    """The layers that fine-tuning begins with, on plain features, if the recipe names some.

    Raises OSError and ValueError as `imagenet_layers` does, and for layers of another width than the recipe's.
    """
    if config.initial is None:
        return []
    layers = imagenet_layers(Path(config.initial), encoder.levels, encoder.backbone.channels)
    if (width := len(layers[0][1])) != config.width:
        raise ValueError(f"width must be {width}, that of the layers to begin with, but is {config.width}")
    return layers


class LayerTuning:
    """A training of fc6, fc7 and fc8 and its state on disk: `run` starts it or goes on with it.

    ``start`` are layers to begin with, fc6 first; the others begin with random numbers.
    """

    def __init__(
        self,
        images: SampledImages,
        validation: SampledImages,
        settings: FineTuningSettings,
        checkpoint: Path,
        precision: str = "float32",
        device: str = "cpu",
        start: Sequence[Layer] = (),
    ) -> None:
        network = build_layers(images.n_features, images.n_classes, settings, start).to(device)
        batches = _BoxBatches(images, validation, settings, getattr(torch, precision), torch.device(device))
        self.title = f"fine-tuning, batches x {batches.per_round}"
        self.descent = GradientDescent(
            network,
            sgd(parameter_groups(network, settings.weight_decay), settings.momentum, device),
            batches,
            settings.schedule(batches.per_round),
            softmax_loss,
            Checkpoint(checkpoint),
            Validation(batches.validation, settings.rounds_per_snapshot),
            precision,
            device,
        )

    def run(self, progress: Progress = without_progress) -> TunedLayers:
        """`GradientDescent.run`."""
        best = self.descent.run(progress, self.title)
        values = {name: tensor.numpy(force=True) for name, tensor in best.items()}
        fc6, fc7 = ((values[f"{i}.weight"].astype(np.float16), values[f"{i}.bias"]) for i in (0, 3))
        softmax = Softmax(np.ascontiguousarray(values["6.weight"].T), values["6.bias"])
        return TunedLayers(fc6, fc7, softmax, self.descent.lowest)


def build_layers(
    n_features: int, n_classes: int, settings: FineTuningSettings, start: Sequence[Layer] = ()
) -> nn.Sequential:
    """fc6, fc7 and fc8, ``(n, n_features)`` -> ``(n, n_classes + 1)``: those in ``start``, the others random."""
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


class _BoxBatches:
    """Rounds of boxes of some images, mixed."""

    def __init__(
        self,
        images: SampledImages,
        validation_images: SampledImages,
        settings: FineTuningSettings,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.images, self.validation_images, self.settings = images, validation_images, settings
        self.dtype, self.device = dtype, device
        boxes = min(settings.images_per_round, len(images)) * settings.boxes_per_image
        self.per_round = max(1, boxes // settings.batch_size)

    def round(self, number: int, first: int = 0) -> Iterator[Batch]:
        chosen, random = self.settings.draw(len(self.images), number)
        features, labels = self._sampled(self.images, chosen, random, self.settings.boxes_per_image)
        for rows in islice(torch.randperm(len(labels)).split(self.settings.batch_size), first, None):
            yield self._batch(features[rows], labels[rows])

    def validation(self) -> list[Batch]:
        """The same boxes at every call."""
        random = np.random.default_rng(self.settings.seed)
        chosen = np.arange(0, len(self.validation_images), -(-len(self.validation_images) // _MAX_VALIDATION_IMAGES))
        features, labels = self._sampled(self.validation_images, chosen, random, VALIDATION_BOXES)
        parts = zip(features.split(_VALIDATION_ROWS), labels.split(_VALIDATION_ROWS), strict=True)
        return [self._batch(*part) for part in parts]

    def _batch(self, features: torch.Tensor, labels: torch.Tensor) -> Batch:
        return Batch(features.to(self.device), labels, len(labels))

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
