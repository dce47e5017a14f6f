"""The state of a training on disk, so that one that was killed goes on to the same result."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.files import Arrays, read_arrays, write_arrays

_log = logging.getLogger(__name__)

Position = tuple[int, int]
"""Epoch and batch that come next."""


def to_arrays(layers: nn.Module) -> Arrays:
    """Copies of all tensors of a module, by name."""
    return {name: _to_array(tensor) for name, tensor in layers.state_dict().items()}


def _to_array(tensor: torch.Tensor) -> NDArray[np.generic]:
    # row by row, as files need it, whatever the layout of the tensor
    return np.array(tensor.numpy(force=True), order="C")


def save_state(path: Path, layers: nn.Module, optimiser: torch.optim.SGD, position: Position) -> None:
    """Write weights, momentum and position, whole or not at all."""
    arrays = {f"weights.{name}": array for name, array in to_arrays(layers).items()}
    for name, parameter in layers.named_parameters():
        if (momentum := optimiser.state[parameter].get("momentum_buffer")) is not None:
            arrays[f"momentum.{name}"] = _to_array(momentum)
    write_arrays(path, arrays, {"position": position})


def load_state(path: Path, layers: nn.Module, optimiser: torch.optim.SGD) -> Position:
    """Take up the state of `save_state`; without a file, the beginning.

    A damaged file is reported and counts as none.
    """
    try:
        arrays, metadata = read_arrays(path)
    except FileNotFoundError:
        return 0, 0
    except ValueError as error:
        _log.warning("%s; starting over", error)
        return 0, 0
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    layers.load_state_dict({name: tensors[f"weights.{name}"] for name in layers.state_dict()})
    for name, parameter in layers.named_parameters():
        if (momentum := tensors.get(f"momentum.{name}")) is not None:
            # in the layout of the weights: another one may be added up in another order
            optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum).detach()
    epoch, batch = metadata["position"]
    return epoch, batch
