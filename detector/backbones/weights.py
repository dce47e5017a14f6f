"""Check and identify the tensors of a network, of torch or numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from detector.runtime.files import digest

Tensor = TypeVar("Tensor")
Arrays = Mapping[str, NDArray[Any]]


def origin(weights: object, name: str) -> str:
    """Return what error messages call the weights of the network ``name``: their file, if any."""
    return str(weights) if isinstance(weights, str | Path) else name


def check_tensors(shapes: Mapping[str, tuple[int, ...]], state: Mapping[str, Any], source: str) -> None:
    """Raise ValueError, naming the source and the first tensor that is missing or has another shape."""
    for name, shape in shapes.items():
        if name not in state:
            raise ValueError(f"{source}: no tensor {name!r}")
        if (found := tuple(state[name].shape)) != shape:
            raise ValueError(f"{source}: {name!r} must have shape {shape}, but got {found}")


def check_finite(arrays: Arrays, source: str) -> None:
    """Raise ValueError, naming the source and the first array with infinite values or NaN."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{source}: {name!r} must be finite")


def check_tuned(learned: Mapping[str, Any], own: Mapping[str, Any], source: str, network: str) -> None:
    """Raise ValueError, naming the first one, for fine-tuned tensors that the network does not have."""
    if unknown := sorted(learned.keys() - own.keys()):
        raise ValueError(f"{source}: {network} has no tensor {unknown[0]!r} up to the stage whose maps are used")


def tensors_digest(arrays: Arrays) -> str:
    """Return the SHA-256 (hexadecimal) of the names, types, shapes and values of contiguous arrays, in order."""

    def parts() -> Iterator[Any]:
        for name, array in arrays.items():
            yield f"{name} torch.{array.dtype} {array.shape}\n".encode()
            yield array

    return digest(parts())
