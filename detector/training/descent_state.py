"""The state of a training on disk, so that one that was killed goes on to the same result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.runtime.array_cache import stored_arrays
from detector.runtime.files import Arrays


def read_state(path: Path) -> tuple[Arrays, dict[str, Any]] | None:
    """`stored_arrays` of a training."""
    return stored_arrays(path, "starting over")


def to_arrays(layers: nn.Module) -> Arrays:
    """Copies of all tensors of a module, by name."""
    return {name: _to_array(tensor) for name, tensor in layers.state_dict().items()}


def _to_array(tensor: torch.Tensor) -> NDArray[np.generic]:
    # row by row, as files need it, whatever the layout of the tensor
    return np.array(tensor.numpy(force=True), order="C")


def descent_arrays(layers: nn.Module, optimiser: torch.optim.SGD) -> Arrays:
    """The weights of layers and their momentum, for a file."""
    arrays = {f"weights.{name}": array for name, array in to_arrays(layers).items()}
    for name, parameter in layers.named_parameters():
        if (momentum := optimiser.state[parameter].get("momentum_buffer")) is not None:
            arrays[f"momentum.{name}"] = _to_array(momentum)
    return arrays


def restore_descent(arrays: Arrays, layers: nn.Module, optimiser: torch.optim.SGD) -> None:
    """Give layers and optimiser the state of `descent_arrays`."""
    layers.load_state_dict({name: torch.from_numpy(arrays[f"weights.{name}"]) for name in layers.state_dict()})
    for name, parameter in layers.named_parameters():
        if (momentum := arrays.get(f"momentum.{name}")) is not None:
            # in the layout of the weights: another one may be added up in another order
            buffer = torch.empty_like(parameter).copy_(torch.from_numpy(momentum)).detach()
            optimiser.state[parameter]["momentum_buffer"] = buffer
