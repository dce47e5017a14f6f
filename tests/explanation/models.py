"""Detectors of every kind with random weights on a fake network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detector.backbones.geometry import Geometry
from detector.boxes import Boxes
from detector.config.detector import parse_config
from detector.features.encoder import RegionEncoder, signed_power
from detector.heads.fully_connected import FullyConnected, Softmax
from detector.heads.heads import Heads
from detector.heads.linear import BoxRegressors, LinearSVMs
from detector.pipeline import Detector
from tests.fakes import FakeNetwork

NAMES = ("apple", "pear", "plum")
KINDS: dict[str, dict[str, Any]] = {
    "pooled": {},
    "power": {"power": 0.5},
    "fc6": {"widths": (12,)},
    "fc7": {"widths": (12, 9)},
    "softmax": {"widths": (12, 9), "softmax": True},
    "moved": {"move": True},
    "refined": {"move": True, "box_refinements": 2},
    "refined fc7": {"move": True, "box_refinements": 2, "widths": (12, 9)},
}


class RandomColors(FakeNetwork):
    """A fake network: random mixtures of the mean colors of 16 x 16 pixels, in four channels of either sign."""

    channels = 4
    geometry = Geometry(stride=16, offset=7.5, receptive_field=16)

    def __call__(self, image: NDArray[np.uint8]) -> torch.Tensor:
        pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1) / 255
        mixture = torch.from_numpy(np.random.default_rng(5).normal(size=(4, 3)).astype(np.float32))
        return torch.einsum("kc,cyx->kyx", mixture, torch.nn.functional.avg_pool2d(pixels, 16))


def boxes(rng: np.random.Generator, count: int = 30, width: int = 180, height: int = 120) -> Boxes:
    corners = rng.uniform(0, 1, (count, 2, 2)) * [width - 30, height - 30]
    first = corners.min(1)
    return np.concatenate([first, np.minimum(corners.max(1) + 30, [width, height])], axis=1).astype(np.float32)


def random_image(seed: int = 0) -> NDArray[np.uint8]:
    """120 x 180, in blocks, so that cells differ."""
    blocks = np.random.default_rng(seed).integers(0, 256, (12, 18, 3), np.uint8)
    return np.repeat(np.repeat(blocks, 10, axis=0), 10, axis=1)


def random_detector(
    seed: int = 0,
    widths: tuple[int, ...] = (),
    softmax: bool = False,
    move: bool = False,
    power: float = 1.0,
    **detection: Any,
) -> Detector:
    rng = np.random.default_rng(seed)
    backbone: Any = RandomColors()
    encoder = RegionEncoder(backbone, (96, 144), (3, 2, 1), normalize=lambda pooled: signed_power(pooled, power))

    def normal(*shape: int, scale: float = 1.0) -> NDArray[np.float32]:
        return rng.normal(scale=scale, size=shape).astype(np.float32)

    layers, n_inputs = None, encoder.n_features
    if widths:
        sizes = [n_inputs, *widths]
        weights = [
            normal(out, given, scale=given**-0.5).astype(np.float16) for given, out in zip(sizes, widths, strict=False)
        ]
        layers = FullyConnected(weights, [normal(out) for out in widths])
    n_features = n_inputs if layers is None else layers.n_features
    scorer: Any = (Softmax if softmax else LinearSVMs)(
        normal(n_features, len(NAMES) + softmax, scale=0.3), normal(len(NAMES) + softmax)
    )
    regressors = BoxRegressors(normal(len(NAMES), n_inputs, 4, scale=0.02), np.zeros((len(NAMES), 4), np.float32))
    proposals = boxes(rng)
    detector = Detector(
        lambda image: proposals,
        encoder,
        Heads(scorer, [regressors] if move else (), layers),
        NAMES,
    )
    config = parse_config({"detection": {"min_score": -0.5, **detection}}, "test")
    return replace(detector, config=config)
