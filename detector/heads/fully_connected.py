"""Fully connected layers between pooled features and scores, as they are used once trained (paper, section 4.1).

Features for linear SVMs are the values of fc6 or fc7 after ReLU; the softmax over the classes
and background, fc8, may score boxes itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detector.runtime.files import digest
from detector.runtime.openvino import CompiledGraph
from detector.runtime.optional import optional

if TYPE_CHECKING:
    from detector.heads.torch_layers import TorchLayers

Features = NDArray[np.float32]

_ROWS = 64
"""Of a product. Another number may be multiplied by other kernels, which round otherwise."""


class OpenVINOLayers:
    """Callable from ``(R, D)`` features to those of the last layer; see `FullyConnected`. A product takes one thread.

    Raises MissingPackageError without OpenVINO.
    """

    def __init__(self, weights: Sequence[NDArray[np.float16]], biases: Sequence[Features], precision: str) -> None:
        self._n_outputs = len(biases[-1])
        self._graph = CompiledGraph(_graph(weights, biases), precision, side_by_side=True)

    def __call__(self, features: Features) -> Features:
        result = np.empty((len(features), self._n_outputs), np.float32)
        for start in range(0, len(features), _ROWS):
            rows = np.ascontiguousarray(features[start : start + _ROWS])
            n_rows = len(rows)
            if n_rows < _ROWS:
                rows = np.pad(rows, ((0, _ROWS - n_rows), (0, 0)))
            result[start : start + n_rows] = self._graph(rows)[:n_rows]
        return result


def _graph(weights: Sequence[NDArray[np.float16]], biases: Sequence[Features]) -> Any:
    op = optional("openvino.opset13", "openvino")
    features = op.parameter([_ROWS, weights[0].shape[1]], np.float32)
    values = features
    for each, own in zip(weights, biases, strict=True):
        product = op.matmul(values, op.constant(each.astype(np.float32)), False, True)
        values = op.relu(op.add(product, op.constant(own[None])))
    return optional("openvino", "openvino").Model([values], [features], "fully_connected")


Half = NDArray[np.float16]

LAYERS = ("fc6", "fc7")


@dataclass(frozen=True, eq=False)
class FullyConnected:
    """Callable from ``(R, D)`` float32 features to those of the last layer, ``(R, n_features)`` float32, after ReLU.

    ``weights`` of a layer are ``(n_out, n_in)`` float16 and ``biases`` ``(n_out,)`` float32; products are computed in
    ``precision`` by ``runtime``, torch (on its ``device``) or openvino. With ``beside_inputs`` a row begins with its D
    inputs. Raises ValueError for layers that do not follow each other.
    """

    weights: Sequence[Half]
    biases: Sequence[Features]
    precision: str = "float32"
    device: str = "cpu"
    beside_inputs: bool = False
    runtime: str = "torch"
    _compute: Callable[[Features], Features] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sizes = [weights.shape for weights in self.weights]
        fit = all(after[1] == before[0] for before, after in pairwise(sizes))
        if not sizes or not fit or [each.shape for each in self.biases] != [(n_out,) for n_out, _ in sizes]:
            raise ValueError(f"layers must follow each other and have as many biases as outputs, but are {sizes}")
        object.__setattr__(self, "_compute", self._in_openvino() if self.runtime == "openvino" else self._in_torch)

    def __reduce__(self) -> tuple[Any, ...]:
        # for workers, which compile what they compute themselves
        return FullyConnected, tuple(getattr(self, each.name) for each in fields(self) if each.init)

    @cached_property
    def _in_torch(self) -> TorchLayers:
        from detector.heads.torch_layers import TorchLayers

        return TorchLayers(self.weights, self.biases, self.precision, self.device)

    def _in_openvino(self) -> OpenVINOLayers:

        return OpenVINOLayers(self.weights, self.biases, self.precision)

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
        result = self._compute(features)
        return np.concatenate([features, result], axis=1) if self.beside_inputs else result

    def affine_at(
        self, features: Features, weights: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """``self(features) @ weights`` as an affine function of each row: weights ``(R, D)`` and constants ``(R,)``.

        ``features`` are ``(R, D)`` and ``weights`` ``(R, n_features)``, each row's own. A network of ReLU is affine
        where it stands, by the units that are active there. Products are computed in float32, of weights as they are
        rounded to ``precision``: the functions leave out how the values between the layers are rounded.
        """
        result, constants = self._in_torch.affine_at(features, weights[:, self.parts[-1]].astype(np.float32))
        if self.beside_inputs:
            result = result + weights[:, self.parts[0]]
        return result, constants


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

    def affine_at(
        self, features: Features, labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Weights ``(R, D)`` and constants ``(R,)`` that make up the log odds of each row in the class of its label.

        The log of a sum of exponentials is their mean, weighted by the softmax, plus the entropy of these weights. So
        log odds are exactly the class's value less the mean of the others', less an entropy, which is a constant; the
        weights are also their gradient.
        """
        values = features.astype(np.float64) @ self.weights + self.biases
        values[np.arange(len(labels)), labels] = -np.inf
        shares = np.exp(values - values.max(1, keepdims=True, initial=-np.inf))
        shares /= shares.sum(1, keepdims=True)
        entropies = -(shares * np.log(np.maximum(shares, np.finfo(np.float64).tiny))).sum(1)
        weights = self.weights.T[labels] - shares @ self.weights.T
        return weights, self.biases[labels] - shares @ self.biases - entropies
