"""Fully connected layers computed by torch; a module of its own, since importing torch takes seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Features = NDArray[np.float32]

_MIN_ROWS = 32


class TorchLayers:
    """Layers of `fully_connected.FullyConnected` computed by torch."""

    def __init__(
        self, weights: Sequence[NDArray[np.float16]], biases: Sequence[Features], precision: str, device: str
    ) -> None:
        self.device, self.dtype = device, getattr(torch, precision)
        self._layers = [
            (torch.from_numpy(each).to(device, self.dtype), torch.from_numpy(own).to(device, self.dtype))
            for each, own in zip(weights, biases, strict=True)
        ]

    def __call__(self, features: Features) -> Features:
        rows = features
        if len(rows) < _MIN_ROWS:
            # few rows run on other kernels, which round differently; no row may depend on the number of rows
            rows = np.pad(rows, ((0, _MIN_ROWS - len(rows)), (0, 0)))
        with torch.inference_mode():
            values = torch.from_numpy(rows).to(self.device, self.dtype)
            for weights, biases in self._layers:
                values = torch.nn.functional.linear(values, weights, biases).relu_()
            result: Features = values[: len(features)].float().numpy(force=True)
        return result
