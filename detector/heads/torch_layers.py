"""Fully connected layers computed by torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Features = NDArray[np.float32]

_LEAST_ROWS = 32


class TorchLayers:
    """Callable from ``(R, D)`` features to those of the last layer; see `FullyConnected`."""

    def __init__(
        self, weights: Sequence[NDArray[np.float16]], biases: Sequence[Features], precision: str, device: str
    ) -> None:
        self.device, dtype = device, getattr(torch, precision)
        self._layers = [
            (torch.from_numpy(each).to(device, dtype), torch.from_numpy(own).to(device, dtype))
            for each, own in zip(weights, biases, strict=True)
        ]

    def __call__(self, features: Features) -> Features:
        rows = features
        if len(rows) < _LEAST_ROWS:
            # few rows are multiplied by other kernels, which round otherwise; no row shall depend on their number
            rows = np.pad(rows, ((0, _LEAST_ROWS - len(rows)), (0, 0)))
        with torch.inference_mode():
            result: Features = self._values(rows)[-1][: len(features)].float().numpy(force=True)
        return result

    def affine_at(self, features: Features, weights: Features) -> tuple[Features, Features]:
        """``self(features) @ weights`` as `FullyConnected.affine_at` tells it."""
        with torch.inference_mode():
            active = [values > 0 for values in self._values(features)]
            back = torch.from_numpy(weights).to(self.device)
            constants = torch.zeros(len(features), device=self.device)
            for (layer_weights, layer_biases), mask in zip(reversed(self._layers), reversed(active), strict=True):
                back = back * mask
                constants += back @ layer_biases.float()
                back = back @ layer_weights.float()
            return back.numpy(force=True), constants.numpy(force=True)

    def _values(self, features: Features) -> list[torch.Tensor]:
        """Those of every layer, after ReLU."""
        values = [torch.from_numpy(features).to(self.device, self._layers[0][0].dtype)]
        for weights, biases in self._layers:
            values.append(torch.nn.functional.linear(values[-1], weights, biases).relu_())
        return values[1:]
