"""The state of a joint training on disk: weights, their mean, and the moments of its optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from detector.runtime.array_cache import stored_arrays
from detector.runtime.files import Arrays
from detector.training.checkpoints import to_arrays
from detector.training.end_to_end.region_network import RegionNetwork

_MOMENTS = ("exp_avg", "exp_avg_sq")


def joint_arrays(
    network: RegionNetwork,
    names: Sequence[str],
    mean: Sequence[torch.Tensor],
    optimizer: torch.optim.AdamW,
    goes_on: bool,
) -> Arrays:
    """All that a training goes on from, for a file; or, where nothing goes on, what it ended with.

    ``names`` are of the parameters that learn, and ``mean`` their means.
    """
    arrays: Arrays = {f"mean.{name}": tensor.numpy() for name, tensor in zip(names, mean, strict=True)}
    state = to_arrays(network.state_dict())
    kept = state if goes_on else {name: state[name] for name, _ in network.named_buffers(recurse=False)}
    arrays |= {f"weights.{name}": array for name, array in kept.items()}
    if goes_on:
        parameters = dict(network.named_parameters())
        for name in names:
            for moment in _MOMENTS:
                arrays[f"{moment}.{name}"] = optimizer.state[parameters[name]][moment].numpy()
    return arrays


def read_joint_state(path: Path) -> tuple[Arrays, int] | None:
    """The arrays of `joint_arrays` in a file and the next step; None where there is no sound file."""
    if (state := stored_arrays(path, "starting over", ("step",))) is None:
        return None
    arrays, metadata = state
    return arrays, int(metadata["step"])


def restore_joint(
    arrays: Arrays,
    network: RegionNetwork,
    names: Sequence[str],
    mean: Sequence[torch.Tensor],
    optimizer: torch.optim.AdamW,
    step: int,
) -> None:
    """Give a training the state of `joint_arrays` after ``step`` steps."""
    own = network.state_dict(keep_vars=True)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, tensor in own.items():
            if (array := arrays.get(f"weights.{name}")) is not None:
                tensor.copy_(torch.from_numpy(array))
        for name, tensor in zip(names, mean, strict=True):
            tensor.copy_(torch.from_numpy(arrays[f"mean.{name}"]))
    for name in names:
        if f"{_MOMENTS[0]}.{name}" in arrays:
            like = parameters[name].detach()
            moments = {
                each: torch.empty_like(like).copy_(torch.from_numpy(arrays[f"{each}.{name}"])) for each in _MOMENTS
            }
            optimizer.state[parameters[name]] = {"step": torch.tensor(float(step)), **moments}
