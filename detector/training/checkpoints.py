"""The state of a training on disk, so that one that was killed goes on to the same result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.datasets.dataset import Annotation
from detector.features.cache import FeatureCache
from detector.runtime.files import Arrays, digest, fingerprint


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


def training_arrays(network: nn.Module, optimizer: torch.optim.SGD) -> Arrays:
    """The weights of a network and their momentum, by name."""
    arrays = {f"weights.{name}": array for name, array in to_arrays(network.state_dict()).items()}
    for name, parameter in network.named_parameters():
        if (momentum := optimizer.state[parameter].get("momentum_buffer")) is not None:
            arrays[f"momentum.{name}"] = _to_array(momentum)
    return arrays


def restore_training(arrays: Arrays, network: nn.Module, optimizer: torch.optim.SGD) -> None:
    """Give a network and its optimizer the state of `training_arrays`."""
    network.load_state_dict({name: torch.from_numpy(arrays[f"weights.{name}"]) for name in network.state_dict()})
    for name, parameter in network.named_parameters():
        if (momentum := arrays.get(f"momentum.{name}")) is not None:
            # in the layout of the weights: another one may be added up in another order
            buffer = torch.empty_like(parameter).copy_(torch.from_numpy(momentum)).detach()
            optimizer.state[parameter]["momentum_buffer"] = buffer


UNTOLD = {"runtime"}
"""Keys of a recipe's features that change nothing but what the name of the maps' folder tells."""


def state_file(kind: str, settings: Mapping[str, Any], data: str, cache: FeatureCache) -> Path:
    """The file of one training in the folder of the cache, another one for anything that would change its result.

    ``kind`` begins its name; ``settings`` are JSON-able values, ``data`` is a `data_digest`.
    """
    changes = {"config": settings, "data": data, "maps": cache.maps_directory.name}
    return cache.directory / f"{kind}-{fingerprint(changes)}.safetensors"


def data_digest(annotations: Sequence[Annotation], cache: FeatureCache) -> str:
    """SHA-256, in hexadecimal, of all objects and proposals."""

    def parts() -> Iterator[bytes]:
        for each in annotations:
            yield each.to_bytes()
            yield bytes(cache.proposals(each.image_id, each.path))

    return digest(parts())
