"""Load a network with the library that computes it: OpenVINO or torch, which is imported only where it is needed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.backbones.geometry import Geometry
from detector.backbones.openvino_backbone import NETWORK, OpenVINOBackbone
from detector.backbones.weights import Arrays
from detector.runtime.openvino import Precision, Runtime, has_bfloat16, import_openvino
from detector.runtime.optional import optional

_log = logging.getLogger(__name__)


class Backbone(Protocol):
    """Convolutional network up to one stage: image to feature map.

    name, stage: as given to `load_backbone`.
    channels, geometry: of the feature map.
    runtime, device, precision: what computes the network, where, and in which precision; none of them is "auto".
    digest: SHA-256, in hexadecimal, of the names, types, shapes and values of the weights up to the stage.
    tensors: these weights by name, as a model file holds them.
    """

    @property
    def name(self) -> str: ...
    @property
    def stage(self) -> str | None: ...
    @property
    def channels(self) -> int: ...
    @property
    def geometry(self) -> Geometry: ...
    @property
    def runtime(self) -> str: ...
    @property
    def device(self) -> Any: ...
    @property
    def precision(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def tensors(self) -> Arrays: ...

    def feature_map(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the ``(h, w, C)`` float32 feature map of an ``(H, W, 3)`` uint8 RGB image.

        Raises ValueError for another shape or type, and for a size that the network cannot take.
        """
        ...


def load_backbone(
    name: str,
    stage: str | None = None,
    weights: str | Path | Arrays | None = None,
    device: str = "cpu",
    precision: Precision = "auto",
    runtime: Runtime = "auto",
) -> Backbone:
    """Load a network; ``runtime`` "auto" takes OpenVINO, the faster one, where it can.

    The other arguments are those of `torch_backbone.load_torch_backbone`, and so are the errors. Where "openvino" is
    asked for but impossible, torch computes the network, and a warning says why.
    """
    if runtime != "torch":
        reason = _unless_openvino(name, weights, device, precision)
        if reason is None:
            fast = "bfloat16" if has_bfloat16() else "float32"
            return OpenVINOBackbone(stage, weights, fast if precision == "auto" else precision)
        _log.log(logging.WARNING if runtime == "openvino" else logging.DEBUG, "torch computes the network: %s", reason)
    torch = optional("torch", "torch")
    from detector.backbones.torch_backbone import load_torch_backbone

    tensors: Any = weights
    if isinstance(weights, Mapping):
        tensors = {key: torch.from_numpy(array) for key, array in weights.items()}
    return load_torch_backbone(name, stage, tensors, device, precision)


def _unless_openvino(name: str, weights: str | Path | Arrays | None, device: str, precision: Precision) -> str | None:
    """Return why OpenVINO cannot compute a network; None where it can."""
    if name != NETWORK:
        return f"OpenVINO computes only {NETWORK}, not {name}"
    if isinstance(weights, str) and weights == "random":
        return "random weights need torch"
    if device != "cpu":
        return f"OpenVINO computes on the CPU, not on {device}"
    if precision == "bfloat16" and not has_bfloat16():
        return "OpenVINO computes bfloat16 only where the processor has it"
    try:
        import_openvino("openvino.opset13")
    except ImportError as error:  # or one of its libraries cannot be loaded
        return str(error)
    return None
