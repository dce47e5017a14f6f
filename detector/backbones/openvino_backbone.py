"""Compute EfficientNet-Lite0 with OpenVINO, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.backbones.efficientnet_lite import (
    MEAN,
    NORM_EPSILON,
    NORM_TENSORS,
    STD,
    Plan,
    Step,
    map_geometry,
    plan_up_to,
    published_weights,
    tensor_shapes,
)
from detector.backbones.weights import Arrays, check_tensors, origin, read_weights, tensors_digest
from detector.images.resizing import check_image
from detector.runtime.openvino import CompiledGraph, import_openvino

NETWORK = "efficientnet_lite0"


class OpenVINOBackbone:
    """`Backbone` of EfficientNet-Lite0 up to a stage.

    Arguments and errors are those of `torch_backbone.load_torch_backbone`; weights may not be "random".
    """

    name = NETWORK
    runtime = "openvino"
    device = "cpu"

    def __init__(
        self,
        stage: str | None = None,
        weights: str | Path | Arrays | None = None,
        precision: str = "float32",
    ) -> None:
        try:
            plans = plan_up_to(stage)
        except ValueError as error:
            raise ValueError(f"{NETWORK}, stage {stage}: {error}") from None
        self.stage, self.precision = stage, precision
        source = origin(weights, NETWORK)
        if weights is None:
            weights = published_weights()
        elif isinstance(weights, str | Path):
            weights = read_weights(weights)
        tensors = _fitting(plans, weights, source)
        self.channels = plans[-1].steps[-1].outputs
        self.geometry = map_geometry(plans)
        self.tensors = tensors
        self.digest = tensors_digest(tensors)
        self._graph = CompiledGraph(_graph(plans, tensors), precision)

    def feature_map(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the ``(h, w, C)`` float32 feature map of an ``(H, W, 3)`` uint8 RGB image; ValueError for others."""
        return self._graph(check_image(image)[None])[0]


def _fitting(plans: Sequence[Plan], state: Arrays, source: str) -> Arrays:
    """Return the tensors of the network from a state, which may hold more; types are converted."""
    shapes = tensor_shapes(plans)
    check_tensors(shapes, state, source)
    return {name: np.array(state[name], np.float32 if shape else np.int64, order="C") for name, shape in shapes.items()}


def _graph(plans: Sequence[Plan], tensors: Arrays) -> Any:
    """Return the ``openvino.Model`` from (1, H, W, 3) uint8 to (1, h, w, C), of any height and width."""
    op = import_openvino("openvino.opset13")
    image = op.parameter([1, -1, -1, 3], np.uint8)
    std = np.array(STD, np.float32)
    pixels = op.multiply(op.convert(image, np.float32), op.constant(1 / (255 * std)))
    pixels = op.subtract(pixels, op.constant(np.array(MEAN, np.float32) / std))
    maps = op.transpose(pixels, op.constant([0, 3, 1, 2]))
    for plan in plans:
        before = maps
        for step in plan.steps:
            maps = _step(op, maps, plan, step, tensors)
        if plan.residual:
            maps = op.add(maps, before)
    return import_openvino().Model([op.transpose(maps, op.constant([0, 2, 3, 1]))], [image], NETWORK)


def _step(op: Any, maps: Any, plan: Plan, step: Step, tensors: Arrays) -> Any:
    """Add one convolution, with its batch normalization folded in, and its activation."""
    weights = tensors[plan.layer(f"{step.convolution}.weight")]
    biases = None
    if step.norm is not None:
        scale, shift, mean, variance = (tensors[plan.layer(f"{step.norm}.{name}")] for name in NORM_TENSORS)
        factors = scale / np.sqrt(variance + np.float32(NORM_EPSILON))
        weights, biases = weights * factors[:, None, None, None], shift - mean * factors
    window = [step.stride] * 2, [step.before] * 2, [step.behind] * 2, [step.dilation] * 2
    if step.groups == 1:
        maps = op.convolution(maps, op.constant(weights), *window)
    else:
        maps = op.group_convolution(maps, op.constant(weights[:, None]), *window)
    if biases is not None:
        maps = op.add(maps, op.constant(biases[None, :, None, None]))
    return maps if step.activation is None else op.clamp(maps, 0.0, 6.0)
