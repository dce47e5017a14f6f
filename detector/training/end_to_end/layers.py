"""What a joint training leaves beside the network: fc6, fc7, classes and moves, in the same file as its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from detector.backbones.weights import HEAD
from detector.heads.fully_connected import Softmax
from detector.heads.linear import BoxRegressors
from detector.runtime.files import reading
from detector.training.end_to_end.fc_layers import TunedLayers
from detector.training.sampling import DELTA_SPREAD


@dataclass(frozen=True, eq=False)
class JointLayers:
    """fc6, fc7 and the softmax as fine-tuning gives them, and regressors that read fc7."""

    tuned: TunedLayers
    regressors: BoxRegressors


def joint_tensors(network: Mapping[str, torch.Tensor], layers: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a file: those of the network that learned and the layers after the pooling, by name."""
    named = {f"{HEAD}{name}": tensor for name, tensor in layers.items()}
    return {name: tensor.detach().contiguous() for name, tensor in {**network, **named}.items()}


def read_joint_layers(path: str | Path | None) -> JointLayers:
    """The layers after the pooling in a file of `joint_tensors`.

    Raises ValueError, saying what is needed, where there is no file or it holds none; OSError when it cannot be read.
    """
    if path is None:
        raise ValueError("end_to_end needs the file that spp-tune wrote for this recipe (--tuned)")
    with reading(path), safe_open(path, framework="numpy") as file:
        names = [name for name in file.keys() if name.startswith(HEAD)]  # noqa: SIM118 (not a dict)
        arrays = {name.removeprefix(HEAD): file.get_tensor(name) for name in names}
    if not arrays:
        raise ValueError(f"{path}: holds layers of the network alone, and was not written for end_to_end")
    fc6, fc7 = (_layer(arrays, name) for name in ("fc6", "fc7"))
    softmax = Softmax(np.ascontiguousarray(arrays["classes.weight"].T), arrays["classes.bias"])
    return JointLayers(TunedLayers(fc6, fc7, softmax, float("nan")), _regressors(arrays))


def _layer(arrays: Mapping[str, NDArray[np.float32]], name: str) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    return arrays[f"{name}.weight"].astype(np.float16), arrays[f"{name}.bias"]


def _regressors(arrays: Mapping[str, NDArray[np.float32]]) -> BoxRegressors:
    """Regressors ``(K, D, 4)`` of plain deltas, from a layer ``(4 K, D)`` of deltas in units of their spread."""
    weights, biases = arrays["moves.weight"], arrays["moves.bias"]
    by_class = weights.reshape(-1, 4, weights.shape[1]).transpose(0, 2, 1) * DELTA_SPREAD
    return BoxRegressors(np.ascontiguousarray(by_class), biases.reshape(-1, 4) * DELTA_SPREAD)
