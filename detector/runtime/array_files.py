"""Arrays in safetensors files with a checksum: written, read, and computed where a cached file is missing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from detector.runtime.files import checksum, replacing

_METADATA = "spp-detector"
_log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[np.generic]]


def write_arrays(path: Path, arrays: Arrays, metadata: Mapping[str, Any]) -> None:
    """Write ``arrays`` as safetensors with ``metadata`` and a checksum, whole or not at all; create missing folders.

    Raises OSError, which names the file, when it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # safetensors writes the memory of an array as it is, whatever its order
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    # one key: safetensors writes several in random order, and equal contents must give equal files
    description = json.dumps({**metadata, "crc32": checksum(_contents(arrays))}, sort_keys=True)
    with replacing(path) as temporary:
        temporary.write_bytes(save(arrays, {_METADATA: description}))


def read_arrays(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays and metadata of a file of `write_arrays`.

    Raises FileNotFoundError when it is missing, OSError when it cannot be read, and ValueError, which names the file,
    when it is damaged or was not written by `write_arrays`.
    """
    with named_errors(path), safe_open(path, framework="numpy") as file:
        metadata = _metadata(path, file)
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if metadata.pop("crc32") != checksum(_contents(arrays)):
        raise ValueError(f"{path}: is damaged: the checksum does not fit the contents")
    return arrays, metadata


def read_metadata(path: Path) -> dict[str, Any]:
    """Return only the metadata of a file of `write_arrays`, with the errors of `read_arrays`; check no arrays."""
    with named_errors(path), safe_open(path, framework="numpy") as file:
        return _metadata(path, file)


@contextmanager
def named_errors(path: str | Path) -> Iterator[None]:
    """Raise errors of a block that reads safetensors as ValueError or OSError that name the file."""
    try:
        yield
    except (FileNotFoundError, MemoryError):
        raise
    except OSError as error:
        # such as a folder: the library does not name it
        raise OSError(f"{path}: cannot be read as a file: {error}") from error
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
            raise
        # such as a type that numpy lacks, bfloat16 or float8, or deeply nested metadata
        raise ValueError(f"{path}: is damaged or not a safetensors file: {str(error)[:200]}") from None


def stored_arrays(
    file: Path, otherwise: str = "computing it again", needs: Collection[str] = ()
) -> tuple[Arrays, dict[str, Any]] | None:
    """Return `read_arrays` of a file, or None where there is none.

    A damaged file, or one that lacks an array or a metadata key in ``needs``, counts as none; a warning says so, and
    what is done ``otherwise``.
    """
    try:
        arrays, metadata = read_arrays(file)
        if missing := [name for name in needs if name not in arrays and name not in metadata]:
            raise ValueError(f"{file}: is of another kind, it lacks {missing[0]!r}")
        return arrays, metadata
    except FileNotFoundError:
        return None
    except ValueError as error:
        _log.warning("%s; %s", error, otherwise)
        return None


def cached_arrays(
    file: Path, compute: Callable[[], Arrays], image: Path | None = None, needs: Collection[str] = ()
) -> Arrays:
    """Return the arrays in ``file``; where it is missing or damaged, compute and write them.

    image: the file that they are computed from. Its checksum is stored with them: arrays of another image are computed
    again, with a warning; those of a missing image stay in use.
    needs: names of arrays that must be there.
    """
    stored = stored_arrays(file, needs=needs)
    if stored is not None:
        arrays, metadata = stored
        if image is None or not image.exists() or metadata.get("image") == checksum([image.read_bytes()]):
            return arrays
        _log.warning("%s: belongs to another image than %s; computing it again", file, image)
    arrays = compute()
    write_arrays(file, arrays, {} if image is None else {"image": checksum([image.read_bytes()])})
    return arrays


def _metadata(path: Path, file: safe_open) -> dict[str, Any]:
    metadata = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    if not isinstance(metadata, dict) or "crc32" not in metadata:
        raise ValueError(f"{path}: was not written by this program")
    return metadata


def _contents(arrays: Arrays) -> Iterator[bytes | memoryview]:
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        yield f"{name}{array.dtype.str}{array.shape}".encode()
        # as bytes: buffers lack some types, such as bfloat16
        yield array.reshape(-1).view(np.uint8).data
