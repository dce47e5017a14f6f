"""Fully connected layers between pooled features and scores, for inference (paper, section 4.1).

Linear SVMs score the values of fc6 or fc7 after ReLU; the softmax over classes and background, fc8, may score boxes
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.heads.linear import in_blocks, product
from detector.runtime.files import digest
from detector.runtime.openvino import CompiledGraph, import_openvino

Features = NDArray[np.float32]
Half = NDArray[np.float16]

LAYERS = ("fc6", "fc7")

_ROWS = 64
"""Rows of one product in OpenVINO; other counts may run on other kernels, which round differently."""


@dataclass(frozen=True, eq=False)
class FullyConnected:
    """Callable from ``(R, D)`` float32 features to the values of the last layer, ``(R, n_features)``, after ReLU.

    weights: per layer ``(n_out, n_in)`` float16. biases: per layer ``(n_out,)`` float32.
    precision: of the products, "float32" or "bfloat16".
    device: torch's name of one. runtime: "torch" or "openvino".
    Raises ValueError for layers that do not follow each other.
    """

    weights: Sequence[Half]
    biases: Sequence[Features]
    precision: str = "float32"
    device: str = "cpu"
    runtime: str = "torch"
    _compute: Callable[[Features], Features] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sizes = [weights.shape for weights in self.weights]
        fit = all(after[1] == before[0] for before, after in pairwise(sizes))
        if not sizes or not fit or [each.shape for each in self.biases] != [(n_out,) for n_out, _ in sizes]:
            raise ValueError(f"layers must follow each other and have as many biases as outputs, but are {sizes}")
        if self.runtime == "openvino":
            compute: Callable[[Features], Features] = OpenVINOLayers(self.weights, self.biases, self.precision)
        else:
            from detector.heads.torch_layers import TorchLayers

            compute = TorchLayers(self.weights, self.biases, self.precision, self.device)
        object.__setattr__(self, "_compute", compute)

    def __reduce__(self) -> tuple[Any, ...]:
        # for workers: compiled layers are not pickled but compiled again
        return FullyConnected, tuple(getattr(self, each.name) for each in fields(self) if each.init)

    @property
    def n_inputs(self) -> int:
        """Number of features of a row that the first layer takes."""
        return self.weights[0].shape[1]

    @property
    def n_features(self) -> int:
        """Number of values of the last layer."""
        return self.weights[-1].shape[0]

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all weights and biases."""
        return digest([*(each.tobytes() for each in self.weights), *(each.tobytes() for each in self.biases)])

    def __call__(self, features: Features) -> Features:
        if features.ndim != 2 or features.shape[1] != self.n_inputs:
            raise ValueError(f"features must have shape (_, {self.n_inputs}), but got {features.shape}")
        return self._compute(features)

    def affine_at(self, features: Features, weights: NDArray[np.floating]) -> tuple[Features, Features]:
        """Return weights ``(R, D)`` and constants ``(R,)`` of ``self(features) @ weights`` as an affine function.

        features: ``(R, D)``. weights: ``(R, n_features)``, one row each. A ReLU network is affine at each input, by the
        units that are active there. Products are computed in float32, of weights rounded to ``precision``; the
        rounding of values between the layers is left out.
        """
        layers = [(_rounded(each, self.precision), own) for each, own in zip(self.weights, self.biases, strict=True)]
        values, active = features, []
        for layer_weights, layer_biases in layers:
            values = np.maximum(values @ layer_weights.T + layer_biases, 0)
            active.append(values > 0)
        result, constants = weights.astype(np.float32), np.zeros(len(features), np.float32)
        for (layer_weights, layer_biases), mask in zip(reversed(layers), reversed(active), strict=True):
            result = result * mask
            constants += result @ layer_biases
            result = result @ layer_weights
        return result, constants


def _rounded(weights: Half, precision: str) -> Features:
    """Return weights as float32, rounded to bfloat16 (to nearest, ties to even) where that is the precision."""
    full = weights.astype(np.float32)
    if precision != "bfloat16":
        return full
    bits = full.view(np.uint32)
    bits += 0x7FFF + ((bits >> 16) & 1)
    bits &= 0xFFFF0000
    return full


class OpenVINOLayers:
    """Layers of `FullyConnected` computed by OpenVINO, one thread per product.

    Raises MissingPackageError without OpenVINO.
    """

    def __init__(self, weights: Sequence[Half], biases: Sequence[Features], precision: str) -> None:
        self._n_outputs = len(biases[-1])
        self._graph = CompiledGraph(_graph(weights, biases), precision, side_by_side=True)

    def __call__(self, features: Features) -> Features:
        return in_blocks(self._graph, np.ascontiguousarray(features), self._n_outputs, _ROWS)


def _graph(weights: Sequence[Half], biases: Sequence[Features]) -> Any:
    op = import_openvino("openvino.opset13")
    features = op.parameter([_ROWS, weights[0].shape[1]], np.float32)
    values = features
    for each, own in zip(weights, biases, strict=True):
        products = op.matmul(values, op.constant(each.astype(np.float32)), False, True)
        values = op.relu(op.add(products, op.constant(own[None])))
    return import_openvino().Model([values], [features], "fully_connected")


@dataclass(frozen=True)
class Softmax:
    """Softmax over K classes and background, which is last.

    ``weights`` ``(D, K + 1)`` and ``biases`` ``(K + 1,)`` are float32.
    """

    weights: NDArray[np.float32]
    biases: NDArray[np.float32]

    @property
    def n_classes(self) -> int:
        """Number K of classes, without the background."""
        return len(self.biases) - 1

    def decision_function(self, features: Features) -> Features:
        """Return log odds ``(R, K)`` float32 of each class against everything else, of ``(R, D)`` float32 features.

        They are unbounded, and 0 where the softmax gives the class one half, as an SVM's margin is on its boundary.
        """
        if features.ndim != 2 or features.shape[1] != len(self.weights):
            raise ValueError(f"features must have shape (_, {len(self.weights)}), but got {features.shape}")
        values = product(features, self.weights) + self.biases
        values -= values.max(1, keepdims=True, initial=-np.inf)
        exponentials = np.exp(values)
        # a sum without the class itself: a difference would lose the odds of what is almost certain
        others = product(exponentials, 1 - np.eye(len(self.biases), dtype=np.float32))
        return (values - np.log(np.maximum(others, np.finfo(np.float32).tiny)))[:, :-1]

    def affine_at(
        self, features: Features, labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return weights ``(R, D)`` and constants ``(R,)`` of the log odds of each row in the class of its label.

        The log of a sum of exponentials is their mean, weighted by the softmax, plus the entropy of these weights. So
        log odds are exactly the value of the class, minus the mean of the others', minus an entropy, which is a
        constant; the weights are also their gradient.
        """
        values = features.astype(np.float64) @ self.weights + self.biases
        values[np.arange(len(labels)), labels] = -np.inf
        others = np.exp(values - values.max(1, keepdims=True, initial=-np.inf))
        others /= others.sum(1, keepdims=True)
        entropies = -(others * np.log(np.maximum(others, np.finfo(np.float64).tiny))).sum(1)
        weights = self.weights.T[labels] - others @ self.weights.T
        return weights, self.biases[labels] - others @ self.biases - entropies
