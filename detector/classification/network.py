"""Layers of a classifier: convolutions up to a stage, an optional pyramid, fully connected layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from detector.backbones.loading import Network, Preprocessing, load_network
from detector.backbones.torch_backbone import TorchBackbone, usable_precision
from detector.backbones.truncation import State
from detector.config.classifier import ClassifierConfig, NetworkConfig
from detector.features.pyramid_layer import SpatialPyramidPooling

Maps = Callable[[NDArray[np.uint8]], torch.Tensor]

LAST_STD = 0.01


class UnitNorm(nn.Module):
    """Scale rows ``(N, D)`` to one Euclidean norm."""

    def __init__(self, norm: float) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.normalize(features) * self.norm


class Head(nn.Module):
    """Layers after the convolutions: maps ``(N, C, h, w)`` float32 -> logits ``(N, K)`` float32.

    pool: maps to features; of any size with a pyramid (bins before channels), of one size without.
    layers: features to logits.
    """

    def __init__(self, config: NetworkConfig, map_shape: tuple[int, int, int], n_classes: int) -> None:
        super().__init__()
        channels, height, width = map_shape
        self.pool: SpatialPyramidPooling | nn.Flatten = nn.Flatten()
        inputs = channels * height * width
        if config.pyramid is not None:
            self.pool = SpatialPyramidPooling(config.pyramid)
            inputs = channels * self.pool.n_bins
        layers: list[nn.Module] = [] if config.feature_norm is None else [UnitNorm(config.feature_norm)]
        for width in config.hidden:
            layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True), nn.Dropout(config.dropout)]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, n_classes))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(self.pool(maps))
        return logits


def build_convolutions(config: NetworkConfig, state: State | None = None) -> Network:
    """Return the convolutions of a recipe, with the weights ``state`` instead of the recipe's if given.

    A network that is trained from scratch gets pixels scaled as ImageNet's: the release's ZF-5 takes a range of 255,
    which needs learning rates and weights of its own in the first layer.
    """
    network = load_network(config.backbone, config.stage, config.weights if state is None else state)
    return replace(network, preprocessing=Preprocessing()) if config.weights == "random" else network


def build_head(config: ClassifierConfig, maps: Maps, n_classes: int) -> Head:
    """Return an untrained head for the ``maps`` ``(N, C, h, w)`` of images ``(N, H, W, 3)``.

    Raises ValueError if the convolutions cannot take the crop of the recipe.
    """
    _, channels, height, width = _maps_of_square(maps, config.images.crop).shape
    with torch.random.fork_rng(devices=[]):
        return Head(config.network, (channels, height, width), n_classes)


def _maps_of_square(maps: Maps, side: int) -> torch.Tensor:
    with torch.no_grad():
        return maps(np.zeros((1, side, side, 3), np.uint8))


class TrainableClassifier(nn.Module):
    """All layers of a classifier in training: ``(N, S, S, 3)`` uint8 RGB -> logits ``(N, K)`` float32.

    Its parameters are the trained ones: those of the head and, unless frozen, of the convolutions.
    convolutions: a network ready for inference if frozen.
    """

    def __init__(self, config: ClassifierConfig, n_classes: int, device: str = "cpu") -> None:
        super().__init__()
        precision = usable_precision(config.network.precision, device)
        network = build_convolutions(config.network)
        self.convolutions: Network | TorchBackbone = network
        if config.network.frozen:
            self.convolutions = TorchBackbone(network, device, precision)
        self.head = build_head(config, self.convolutions.maps, n_classes)
        _maps_of_square(self.convolutions.maps, min(config.images.sizes))  # fails here, not in a later epoch
        if config.network.weights == "random":
            _init_weights(nn.ModuleList([network.module, self.head]), config.training.seed)
        else:
            _init_weights(self.head, config.training.seed)
        if not config.network.frozen:
            self.backbone = network.module.network
            network.preprocessing.to(device)
        self.to(device).to(memory_format=torch.channels_last)

    def forward(self, images: NDArray[np.uint8]) -> torch.Tensor:
        maps = self.convolutions.maps(images)
        # a copy: tensors of inference mode take no part in gradients
        logits: torch.Tensor = self.head(maps.clone() if maps.is_inference() else maps)
        return logits

    def ready(self, device: str) -> TorchBackbone:
        """Return the trained convolutions for inference; ends the training."""
        self.eval()
        return (
            self.convolutions
            if isinstance(self.convolutions, TorchBackbone)
            else TorchBackbone(self.convolutions, device)
        )


def _init_weights(layers: nn.Module, seed: int) -> None:
    """Initialize all convolutions and linear layers (He et al., 2015), the last with small weights; biases are 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = [layer for layer in layers.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        for layer in drawn:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        nn.init.normal_(drawn[-1].weight, std=LAST_STD)
