"""What a network wants its pixels to be: uint8 RGB -> the input of the first layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Preprocessing(nn.Module):
    """(pixels / 255 - mean) / std, with mean and std by input channel; ``bgr``: channels are BGR, not RGB."""

    def __init__(
        self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD, bgr: bool = False
    ) -> None:
        super().__init__()
        # as one multiplication and one subtraction
        divisor = torch.tensor(std).view(3, 1, 1)
        self.register_buffer("factor", 1 / (255 * divisor), persistent=False)
        self.register_buffer("shift", torch.tensor(mean).view(3, 1, 1) / divisor, persistent=False)
        self.bgr = bgr

    def forward(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, 3, H, W) float32, on the device of this module."""
        factor, shift = self.get_buffer("factor"), self.get_buffer("shift")
        channels = images[..., ::-1] if self.bgr else images
        pixels = torch.tensor(np.ascontiguousarray(channels), device=factor.device).permute(0, 3, 1, 2)
        return (pixels * factor).sub_(shift)
