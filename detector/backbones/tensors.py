"""Tensors of networks by name, of torch or numpy: whether they fit, and what they are known by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from detector.runtime.hashing import digest

Tensor = TypeVar("Tensor")
Arrays = Mapping[str, NDArray[Any]]

HEAD = "head."
"""How names of layers after the network begin in files of tools/tune_network.py."""


def without_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the network itself."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(HEAD)}


def origin(weights: object, name: str) -> str:
    """What errors call the weights of the network ``name``: their file, if they are of one."""
    return str(weights) if isinstance(weights, str | Path) else name


def check_tensors(shapes: Mapping[str, tuple[int, ...]], state: Mapping[str, Any], source: str) -> None:
    """Raise ValueError, naming the source and the first tensor of a state that is missing or has another shape."""
    for name, shape in shapes.items():
        if name not in state:
            raise ValueError(f"{source}: no tensor {name!r}")
        if (found := tuple(state[name].shape)) != shape:
            raise ValueError(f"{source}: {name!r} must have shape {shape}, but got {found}")


def check_tuned(learned: Mapping[str, Any], own: Mapping[str, Any], source: str, network: str) -> None:
    """Raise ValueError, naming the first one, for fine-tuned tensors that are not among the network's own."""
    if unknown := sorted(learned.keys() - own.keys()):
        raise ValueError(f"{source}: {network} has no tensor {unknown[0]!r} up to the stage whose maps are used")


def tensors_digest(arrays: Arrays) -> str:
    """SHA-256 (hexadecimal) of the names, types, shapes and values of contiguous arrays, in order."""

    def parts() -> Iterator[Any]:
        for name, array in arrays.items():
            # as torch writes the types, by which models know their backbones
            yield f"{name} torch.{array.dtype} {array.shape}\n".encode()
            yield array

    return digest(parts())
