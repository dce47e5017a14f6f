"""Fully connected layers computed by OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.runtime.openvino_graph import CompiledGraph
from detector.runtime.optional import optional

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
