"""Tensors in a file of torch as arrays, read without torch, whose import takes longer than a detection.

The format is that of torch before version 1.6: pickles of a number, of a version and of the machine that wrote, one of
the tensors, which name the storages that they lie in, and one of the storages' names; then every storage, as the count
of its values and their bytes. What a pickle may call is listed here, so that no code of a file runs.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from detector.runtime.files import digest

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


_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass
class _Storage:
    """Values that tensors lie in; they come in the file after the tensors."""

    dtype: np.dtype[Any]
    size: int
    values: NDArray[np.generic] | None = None


@dataclass
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> NDArray[np.generic]:
        values = self.storage.values
        assert values is not None
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if min((self.offset, *self.shape, *self.strides)) < 0 or last >= len(values):
            raise ValueError("is damaged: a tensor does not lie in its storage")
        steps = [stride * values.itemsize for stride in self.strides]
        return np.array(as_strided(values[self.offset :], self.shape, steps, writeable=False), order="C")


def read_torch_file(path: Path) -> dict[str, NDArray[np.generic]]:
    """The float32 and int64 tensors by name, in the order of the file.

    Raises OSError when it cannot be read, and ValueError, naming it, for anything but such tensors.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except (pickle.UnpicklingError, struct.error, EOFError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"{path}: is damaged or no such file of torch: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(file: BinaryIO) -> dict[str, NDArray[np.generic]]:
    storages: dict[str, _Storage] = {}
    magic, protocol, machine = (_Unpickler(file, storages).load() for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL or not machine["little_endian"]:
        raise ValueError("is no such file of torch")
    tensors = _Unpickler(file, storages).load()
    for name in _Unpickler(file, storages).load():
        storage = storages[name]
        (size,) = struct.unpack("<q", file.read(8))
        content = file.read(storage.size * storage.dtype.itemsize)
        if size != storage.size or len(content) != storage.size * storage.dtype.itemsize:
            raise ValueError(f"is damaged: storage {name!r} has another size than the tensors say")
        storage.values = np.frombuffer(content, storage.dtype)
    if not all(isinstance(each, _Tensor) and each.storage.values is not None for each in tensors.values()):
        raise ValueError("holds something else than tensors")
    return {name: each.array() for name, each in tensors.items()}


class _Unpickler(pickle.Unpickler):
    """Makes tensors and ordered dictionaries, and nothing else."""

    def __init__(self, file: BinaryIO, storages: dict[str, _Storage]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it calls {module}.{name}")
        return allowed[module, name]

    def persistent_load(self, reference: Any) -> _Storage:
        _, dtype, name, _, size, _ = reference
        return self._storages.setdefault(name, _Storage(dtype, size))


def _rebuild(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)
