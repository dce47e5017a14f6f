"""Fine-tune fully connected layers on pooled features by stochastic gradient descent (paper, section 4.1).

The convolutions are frozen, so that features come from cached maps. A round pools boxes of some images at random scales
(release: spp_finetune) and trains on them in random order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import nn

from detector.config.detector import FineTuningConfig
from detector.features.encoder import Encoder, Features
from detector.features.pooling import n_bins
from detector.heads.fully_connected import LAYERS, FullyConnected, Softmax
from detector.heads.heads import Heads
from detector.model_file import DETECTOR, ModelContents, read_model
from detector.runtime.array_files import named_errors
from detector.runtime.progress import Progress, no_progress
from detector.training.gradient_descent import (
    Batch,
    Checkpoint,
    GradientDescent,
    Schedule,
    Validation,
    parameter_groups,
    softmax_loss,
)
from detector.training.sampling import RandomBoxes, validation_split
from detector.training.training_set import TrainingSet, scaled

Layer = tuple[Features, Features]
"""Weights ``(n_out, n_in)`` and biases ``(n_out,)``, float32."""

IMAGES_PER_ROUND = 64
BOXES_PER_IMAGE = 64
ROUNDS_PER_SNAPSHOT = 15
VALIDATION_BOXES = 32
"""Number of boxes per validation image."""

_MAX_VALIDATION_IMAGES = 250
"""Their features stay in memory."""
_VALIDATION_ROWS = 1024


@dataclass(frozen=True, eq=False)
class FineTunedLayers:
    """Weights and biases of fc6 and fc7, fc8 as a `Softmax`."""

    fc6: tuple[NDArray[np.float16], NDArray[np.float32]]
    fc7: tuple[NDArray[np.float16], NDArray[np.float32]]
    fc8: Softmax

    def up_to(
        self, layer: str, precision: str = "float32", device: str = "cpu", runtime: str = "torch"
    ) -> FullyConnected:
        """Return the layers up to "fc6" or "fc7"; the other arguments are those of `FullyConnected`."""
        layers = [self.fc6] if layer == "fc6" else [self.fc6, self.fc7]
        weights, biases = zip(*layers, strict=True)
        return FullyConnected(weights, biases, precision, device, runtime=runtime)


def fine_tune_layers(
    images: TrainingSet, config: FineTuningConfig, checkpoint: Path, progress: Progress = no_progress
) -> FineTunedLayers:
    """Fine-tune the layers on pooled features of ``images``, some of which are held out for validation.

    The state is kept in the file ``checkpoint``; a second call resumes from it. Raises ValueError for fewer than two
    images with objects.
    """
    encoder = images.cache.encoder
    training, validation = validation_split(images, config)
    start = initial_layers(config, encoder)
    # centered values of about 1 suit random weights best
    images = scaled(images, encoder.n_features**0.5, True, config.seed)
    training, validation = replace(training, images=images), replace(validation, images=images)
    if start:
        (fc6, biases), fc7 = start
        start = [(fc6 / images.scale, biases + fc6 @ images.mean), fc7]
    precision, device = encoder.backbone.precision, str(encoder.backbone.device)
    layers = LayerTraining(training, validation, config, checkpoint, precision, device, start).run(progress)
    weights, biases = images.unscaled(layers.fc6[0].T.astype(np.float32), layers.fc6[1])
    return replace(layers, fc6=(np.ascontiguousarray(weights.T).astype(np.float16), biases))


def initial_layers(config: FineTuningConfig, encoder: Encoder) -> list[Layer]:
    """Return the layers to start from, for unscaled features, if the recipe names some: fc6, and mostly fc7.

    They are those of a model file, or of an ImageNet classifier, see `imagenet_layers`. Raises OSError for a missing
    file, and ValueError for one that does not fit.
    """
    if config.initial is None:
        return []
    path = Path(config.initial)
    with named_errors(path), safe_open(path, framework="numpy") as file:
        is_model = f"{LAYERS[0]}.weights" in file.keys()  # noqa: SIM118 (not a dict)
    if is_model:
        layers = read_model(path, DETECTOR, _layers_of)
    else:
        layers = imagenet_layers(path, encoder.levels, encoder.backbone.channels)
    if (found := layers[0][0].shape[1]) != encoder.n_features:
        raise ValueError(f"{path}: fc6 reads {found} values, but a box has {encoder.n_features}")
    if (width := len(layers[0][1])) != config.width:
        raise ValueError(f"fine_tuning.width must be {width}, that of the initial layers, but is {config.width}")
    return layers


def _layers_of(contents: ModelContents) -> list[Layer]:
    layers = Heads.from_arrays(contents.arrays).layers
    assert layers is not None
    return [(each.astype(np.float32), biases) for each, biases in zip(layers.weights, layers.biases, strict=True)]


def imagenet_layers(path: Path, levels: Sequence[int], n_channels: int) -> list[Layer]:
    """Return fc6 and fc7 of a classifier that was trained on ImageNet, as layers on pooled features.

    The safetensors file has the names of torchvision's AlexNet or VGG-16. Its first layer reads a map of n x n cells,
    channels before rows: it becomes the block of fc6 that reads the pyramid's level n; the other levels start at zero.
    Raises OSError for a missing file and ValueError for one that does not fit.
    """
    with named_errors(path), safe_open(path, framework="numpy") as file:
        found = (re.fullmatch(r"classifier\.(\d+)\.weight", name) for name in file.keys())  # noqa: SIM118 (not a dict)
        numbers = sorted(int(match[1]) for match in found if match)[:2]
        tensors = [tuple(file.get_tensor(f"classifier.{n}.{kind}") for kind in ("weight", "bias")) for n in numbers]
    if len(tensors) < 2:
        raise ValueError(f"{path}: has no layers classifier.*.weight")
    (fc6, bias), fc7 = tensors
    level = math.isqrt(fc6.shape[1] // n_channels)
    if level not in levels or level * level * n_channels != fc6.shape[1]:
        raise ValueError(
            f"{path}: fc6 reads {fc6.shape[1]} values; with {n_channels} channels that is none of the levels {levels}"
        )
    start = sum(each * each for each in levels[: list(levels).index(level)])
    weights = np.zeros((len(fc6), n_bins(levels), n_channels), np.float32)
    weights[:, start : start + level * level] = fc6.reshape(len(fc6), n_channels, -1).transpose(0, 2, 1)
    return [(weights.reshape(len(fc6), -1), bias.astype(np.float32)), tuple(each.astype(np.float32) for each in fc7)]


class LayerTraining:
    """A training of fc6, fc7 and fc8 with its state on disk: `run` starts or resumes it.

    ``start`` are layers to start from, fc6 first; the others start from random weights.
    """

    def __init__(
        self,
        images: RandomBoxes,
        validation: RandomBoxes,
        config: FineTuningConfig,
        checkpoint: Path,
        precision: str = "float32",
        device: str = "cpu",
        start: Sequence[Layer] = (),
    ) -> None:
        network = build_layers(images.n_features, images.n_classes, config, start).to(device)
        groups, on_cpu = parameter_groups(network, config.weight_decay), torch.device(device).type == "cpu"
        batches = _BoxBatches(images, validation, config, getattr(torch, precision), torch.device(device))
        self.title = f"fine-tuning, batches x {batches.per_round}"
        self.descent = GradientDescent(
            network,
            torch.optim.SGD(groups, momentum=config.momentum, fused=on_cpu or None),
            batches,
            fine_tuning_schedule(config, batches.per_round),
            softmax_loss,
            Checkpoint(checkpoint),
            Validation(batches.validation, ROUNDS_PER_SNAPSHOT),
            precision,
            device,
        )

    def run(self, progress: Progress = no_progress) -> FineTunedLayers:
        """Train to the end and return the layers of the best snapshot; see `GradientDescent.run`."""
        best = self.descent.run(progress, self.title)
        values = {name: tensor.numpy(force=True) for name, tensor in best.items()}
        fc6, fc7 = ((values[f"{i}.weight"].astype(np.float16), values[f"{i}.bias"]) for i in (0, 3))
        return FineTunedLayers(fc6, fc7, Softmax(np.ascontiguousarray(values["6.weight"].T), values["6.bias"]))


def fine_tuning_schedule(config: FineTuningConfig, batches_per_round: int) -> Schedule:
    """Return the rounds that make up all iterations, and their learning rates."""
    n_rounds = max(1, round(config.iterations / batches_per_round))
    drops = [sum(number / n_rounds < step for number in range(n_rounds)) for step in config.lr_steps]
    return Schedule(n_rounds, config.lr, drops, config.seed)


def sample_round(n_images: int, seed: int, number: int) -> tuple[NDArray[np.int64], np.random.Generator]:
    """Return the images of a round ``(n,)``, in random order, and the generator for its other random choices."""
    random = np.random.default_rng((seed, number))
    return random.permutation(n_images)[:IMAGES_PER_ROUND], random


def build_layers(
    n_features: int, n_classes: int, config: FineTuningConfig, start: Sequence[Layer] = ()
) -> nn.Sequential:
    """Return fc6, fc7 and fc8, ``(n, n_features)`` -> ``(n, n_classes + 1)``: those in ``start``, then random ones."""
    width, dropout = config.width, config.dropout
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
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
    """Rounds of shuffled boxes of some images."""

    def __init__(
        self,
        images: RandomBoxes,
        validation_images: RandomBoxes,
        config: FineTuningConfig,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.images, self.validation_images, self.config = images, validation_images, config
        self.dtype, self.device = dtype, device
        boxes = min(IMAGES_PER_ROUND, len(images)) * BOXES_PER_IMAGE
        self.per_round = max(1, boxes // config.batch_size)

    def round(self, number: int, first: int = 0) -> Iterator[Batch]:
        sampled, random = sample_round(len(self.images), self.config.seed, number)
        features, labels = self._sampled(self.images, sampled, random, BOXES_PER_IMAGE)
        for rows in islice(torch.randperm(len(labels)).split(self.config.batch_size), first, None):
            yield self._batch(features[rows], labels[rows])

    def validation(self) -> list[Batch]:
        """Return the same boxes at every call."""
        random = np.random.default_rng(self.config.seed)
        sampled = np.arange(0, len(self.validation_images), -(-len(self.validation_images) // _MAX_VALIDATION_IMAGES))
        features, labels = self._sampled(self.validation_images, sampled, random, VALIDATION_BOXES)
        parts = zip(features.split(_VALIDATION_ROWS), labels.split(_VALIDATION_ROWS), strict=True)
        return [self._batch(*part) for part in parts]

    def _batch(self, features: torch.Tensor, labels: torch.Tensor) -> Batch:
        return Batch(features.to(self.device), labels, len(labels))

    def _sampled(
        self, images: RandomBoxes, sampled: NDArray[np.int64], random: np.random.Generator, n_boxes: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.empty(len(sampled) * n_boxes, images.n_features, dtype=self.dtype)
        labels = torch.empty(len(features), dtype=torch.int64)
        end = 0
        for index in sampled:
            values, own = images.sample(int(index), n_boxes, random)
            start, end = end, end + len(own)
            features[start:end] = torch.from_numpy(values)
            labels[start:end] = torch.from_numpy(own)
        return features[:end], labels[:end]
