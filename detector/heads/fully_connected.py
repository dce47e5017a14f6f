"""Fully connected layers between pooled features and scores, as they are used once trained (paper, section 4.1).

Features for linear SVMs are the values of fc6 or fc7 after ReLU; the softmax over the classes
and background, fc8, may score boxes itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from detector.runtime.hashing import digest

Features = NDArray[np.float32]
Half = NDArray[np.float16]

LAYERS = ("fc6", "fc7")
_LEAST_ROWS = 32


@dataclass(frozen=True, eq=False)
class FullyConnected:
    """Callable from ``(R, D)`` float32 features to those of the last layer, ``(R, n_features)`` float32, after ReLU.

    ``weights`` of a layer are ``(n_out, n_in)`` float16 and ``biases`` ``(n_out,)`` float32; products are computed in
    ``precision`` on torch's ``device``. With ``beside_inputs`` a row begins with its D inputs. Raises ValueError for
    layers that do not follow each other.
    """

    weights: Sequence[Half]
    biases: Sequence[Features]
    precision: str = "float32"
    device: str = "cpu"
    beside_inputs: bool = False
    _layers: list[tuple[torch.Tensor, torch.Tensor]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sizes = [weights.shape for weights in self.weights]
        fit = all(after[1] == before[0] for before, after in pairwise(sizes))
        if not sizes or not fit or [each.shape for each in self.biases] != [(n_out,) for n_out, _ in sizes]:
            raise ValueError(f"layers must follow each other and have as many biases as outputs, but are {sizes}")
        dtype = getattr(torch, self.precision)
        layers = [
            (torch.from_numpy(weights).to(self.device, dtype), torch.from_numpy(biases).to(self.device, dtype))
            for weights, biases in zip(self.weights, self.biases, strict=True)
        ]
        object.__setattr__(self, "_layers", layers)

    @property
    def n_inputs(self) -> int:
        return self.weights[0].shape[1]

    @property
    def n_features(self) -> int:
        return self.parts[-1].stop

    @property
    def parts(self) -> list[slice]:
        """Columns of the inputs, where they are among the features, and of the last layer's values."""
        n_outputs = self.weights[-1].shape[0]
        if not self.beside_inputs:
            return [slice(0, n_outputs)]
        return [slice(0, self.n_inputs), slice(self.n_inputs, self.n_inputs + n_outputs)]

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all weights and biases."""
        return digest([*(each.tobytes() for each in self.weights), *(each.tobytes() for each in self.biases)])

    def __call__(self, features: Features) -> Features:
        if features.ndim != 2 or features.shape[1] != self.n_inputs:
            raise ValueError(f"features must have shape (_, {self.n_inputs}), but got {features.shape}")
        rows = features
        if len(rows) < _LEAST_ROWS:
            # few rows are multiplied by other kernels, which round otherwise; no row shall depend on their number
            rows = np.pad(rows, ((0, _LEAST_ROWS - len(rows)), (0, 0)))
        with torch.inference_mode():
            values = torch.from_numpy(rows).to(self.device, self._layers[0][0].dtype)
            for weights, biases in self._layers:
                values = torch.nn.functional.linear(values, weights, biases).relu_()
            result: Features = values[: len(features)].float().numpy(force=True)
        return np.concatenate([features, result], axis=1) if self.beside_inputs else result


@dataclass(frozen=True)
class Softmax:
    """A softmax over K classes and background, which is last.

    ``weights`` ``(D, K + 1)`` and ``biases`` ``(K + 1,)`` are float32.
    """

    weights: NDArray[np.float32]
    biases: NDArray[np.float32]

    def decision_function(self, features: Features) -> Features:
        """Log odds ``(R, K)`` float32 of each class against everything else, of ``(R, D)`` float32 features.

        They are unbounded, and 0 where the softmax gives the class a half: thresholds mean what they do for SVMs.
        """
        if features.ndim != 2 or features.shape[1] != len(self.weights):
            raise ValueError(f"features must have shape (_, {len(self.weights)}), but got {features.shape}")
        values = features @ self.weights + self.biases
        values -= values.max(1, keepdims=True, initial=-np.inf)
        shares = np.exp(values)
        # a sum without the class itself: a difference would lose the odds of what is almost certain
        others = shares @ (1 - np.eye(len(self.biases), dtype=np.float32))
        return (values - np.log(np.maximum(others, np.finfo(np.float32).tiny)))[:, :-1]
