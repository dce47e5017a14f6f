"""Which library computes a network, chosen and loaded; torch is imported only where it is the one."""

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
from detector.runtime.openvino import Precision, Runtime, has_bfloat16
from detector.runtime.optional import optional

_log = logging.getLogger(__name__)


class AnyBackbone(Protocol):
    """A network as features are made with it, whatever computes it.

    name, stage: as they were asked for.
    channels, geometry: of the feature map.
    runtime, device, precision: what computes it, where, and in which precision; none of them is "auto".
    digest: SHA-256, in hexadecimal, of the names, types, shapes and values of the weights up to the stage.
    tuned: tensors by name, of torch or numpy, that took the place of the network's own.
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
    def tuned(self) -> Mapping[str, Any]: ...

    def feature_map(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W, 3) uint8 RGB -> (h, w, C) float32.

        Raises ValueError when the image is not of that shape and type, or of a size that the network cannot take.
        """
        ...


def load_any_backbone(
    name: str,
    stage: str | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    precision: Precision = "auto",
    tuned: str | Path | Arrays | None = None,
    runtime: Runtime = "auto",
) -> AnyBackbone:
    """`backbone.load_backbone` by a runtime; "auto" takes OpenVINO, the faster one, where it can.

    Where "openvino" is asked for and cannot be, torch takes its place, and a warning says why. Raises what
    `load_backbone` does.
    """
    if runtime != "torch":
        reason = _unless_openvino(name, weights, device, precision)
        if reason is None:
            fast = "bfloat16" if has_bfloat16() else "float32"
            return OpenVINOBackbone(stage, weights, fast if precision == "auto" else precision, tuned)
        _log.log(logging.WARNING if runtime == "openvino" else logging.DEBUG, "torch computes the network: %s", reason)
    import torch

    from detector.backbones.torch_backbone import load_backbone

    layers: Any = tuned
    if isinstance(tuned, Mapping):
        layers = {each: torch.from_numpy(array) for each, array in tuned.items()}
    return load_backbone(name, stage, weights, device, precision, layers)


def _unless_openvino(name: str, weights: str | Path | None, device: str, precision: Precision) -> str | None:
    """Why OpenVINO cannot compute a network, if so."""
    if name != NETWORK:
        return f"OpenVINO computes {NETWORK} alone, and not {name}"
    if weights == "random":
        return "random weights are torch's"
    if device != "cpu":
        return f"OpenVINO computes on the processor alone, and not on {device}"
    if precision == "bfloat16" and not has_bfloat16():
        return "OpenVINO computes bfloat16 only where the processor has it"
    try:
        optional("openvino.opset13", "openvino")
    except ImportError as error:  # or one of its libraries cannot be loaded
        return str(error)
    return None
