"""The state of a training on disk, so that one that was killed goes on to the same result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.runtime.files import Arrays


@dataclass(frozen=True)
class Checkpoint:
    """The file of the state, written after snapshots, at the end and, where told so, after a batch every ``seconds``.

    The last asks for batches and layers whose random numbers follow from the number of the batch alone.
    """

    path: Path
    seconds: float = float("inf")


def to_arrays(tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """Copies of tensors, row by row as files need them, whatever their layout."""
    return {name: _to_array(tensor) for name, tensor in tensors.items()}


def _to_array(tensor: torch.Tensor) -> NDArray[np.generic]:
    return np.array(tensor.numpy(force=True), order="C")


def training_arrays(network: nn.Module, optimiser: torch.optim.SGD) -> Arrays:
    """The weights of a network and their momentum, by name."""
    arrays = {f"weights.{name}": array for name, array in to_arrays(network.state_dict()).items()}
    for name, parameter in network.named_parameters():
        if (momentum := optimiser.state[parameter].get("momentum_buffer")) is not None:
            arrays[f"momentum.{name}"] = _to_array(momentum)
    return arrays


def restore_training(arrays: Arrays, network: nn.Module, optimiser: torch.optim.SGD) -> None:
    """Give a network and its optimiser the state of `training_arrays`."""
    network.load_state_dict({name: torch.from_numpy(arrays[f"weights.{name}"]) for name in network.state_dict()})
    for name, parameter in network.named_parameters():
        if (momentum := arrays.get(f"momentum.{name}")) is not None:
            # in the layout of the weights: another one may be added up in another order
            buffer = torch.empty_like(parameter).copy_(torch.from_numpy(momentum)).detach()
            optimiser.state[parameter]["momentum_buffer"] = buffer
