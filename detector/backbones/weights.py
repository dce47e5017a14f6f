"""Read, check and identify the tensors of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.model_file import BACKBONE, weights_file
from detector.runtime.array_files import named_errors
from detector.runtime.files import digest
from detector.runtime.optional import optional

Arrays = Mapping[str, NDArray[Any]]


def read_weights(weights: str | Path) -> Arrays:
    """Read the tensors of a network by name.

    weights: a safetensors file, a model file, or `model_file.SHIPPED`. bfloat16 is converted to float32.
    Raises OSError for an unreadable file and ValueError, with its name, for no tensors or infinite values.
    """
    from safetensors.numpy import load_file

    path = weights_file(weights)
    with named_errors(path):
        try:
            arrays: Arrays = load_file(path)
        except TypeError:  # bfloat16, which numpy lacks
            tensors = optional("safetensors.torch", "torch").load_file(path)
            arrays = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    # with the package ml_dtypes, numpy has bfloat16
    arrays = {name: each if each.dtype.kind in "biuf" else each.astype(np.float32) for name, each in arrays.items()}
    prefix = f"{BACKBONE}."
    own = {name.removeprefix(prefix): each for name, each in arrays.items() if name.startswith(prefix)}
    if not arrays:
        raise ValueError(f"{path}: has no tensors")
    check_finite(own or arrays, str(path))
    return own or arrays


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


def tensors_digest(arrays: Arrays) -> str:
    """Return the SHA-256 (hexadecimal) of the names, types, shapes and values of contiguous arrays, in order."""

    def parts() -> Iterator[Any]:
        for name, array in arrays.items():
            yield f"{name} torch.{array.dtype} {array.shape}\n".encode()
            yield array

    return digest(parts())
