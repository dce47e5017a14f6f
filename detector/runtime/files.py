"""Files that must survive a crash, and what is in them: whole or not there, checked when read."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from detector.runtime.hashing import checksum

_METADATA = "spp-detector"

TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")
"""Names of files that are not whole; where no run is under way, one that was killed has left them."""

Arrays = dict[str, NDArray[np.generic]]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name next to ``path``, for the block to write to.

    When the block ends well the file is renamed to ``path``, else it is removed: a reader, a crash or a second writer
    never meets a half-written file. What a link leads to is replaced, not the link; a device or a pipe is written to,
    under its own name. Raises OSError, naming ``path``, when it cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    # not with the name in it, which may be as long as names can be
    temporary = target.with_name(f".{uuid4().hex}.tmp")
    try:
        if is_stream(path):
            yield path
        else:
            yield temporary
            temporary.replace(target)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise  # of another file
        # a full disk is noticed in mid-file, where the system names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Whether a path names no file that could be replaced, but a device, a pipe, or what a process has open."""
    if not path.exists() or path.is_dir():
        return False
    return not path.is_file() or Path(os.path.realpath(path.parent)).is_relative_to("/proc") or _leads_to_proc(path)


def _leads_to_proc(path: Path) -> bool:
    """Whether a link is one like /dev/stdout."""
    while path.is_symlink():
        path = Path(os.path.realpath(path.parent)) / path.readlink()
        if path.is_relative_to("/proc"):
            return True
    return False


def file_state(path: Path) -> tuple[str, int, int]:
    """Absolute path, time of change and size: another one says that a file may hold something else."""
    status = path.stat()
    return str(path.resolve()), status.st_mtime_ns, status.st_size


def read_text(path: Path, most_bytes: int) -> str:
    """A file of UTF-8; OSError where it cannot be read, ValueError, naming it, where it is larger or something else."""
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"{path}: is larger than {most_bytes} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no UTF-8: {error}") from None


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all. Folders are made where they are missing."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all. Folders are made where they are missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_arrays(path: Path, arrays: Arrays, metadata: Mapping[str, Any]) -> None:
    """Write ``arrays`` as safetensors with ``metadata`` and a checksum, whole or not at all.

    Folders are made where they are missing. Raises OSError, naming the file, when it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # safetensors writes the memory of an array as it lies there, whatever its order
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    # one key: safetensors writes several in random order, and equal contents shall be equal files
    description = json.dumps({**metadata, "crc32": checksum(_contents(arrays))}, sort_keys=True)
    with replacing(path) as temporary:
        temporary.write_bytes(save(arrays, {_METADATA: description}))


def read_arrays(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Arrays and metadata of a file of `write_arrays`.

    Raises FileNotFoundError when it is missing, OSError when it cannot be read, and ValueError, naming the file, when
    it is damaged or was not written by `write_arrays`.
    """
    with reading(path), safe_open(path, framework="numpy") as file:
        metadata = _metadata(path, file)
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if metadata.pop("crc32") != checksum(_contents(arrays)):
        raise ValueError(f"{path}: is damaged: the checksum does not fit the contents")
    return arrays, metadata


def read_metadata(path: Path) -> dict[str, Any]:
    """Metadata alone of a file of `write_arrays`, with the errors of `read_arrays`; the arrays are not checked."""
    with reading(path), safe_open(path, framework="numpy") as file:
        return _metadata(path, file)


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """For blocks that read safetensors: their errors as ValueError, or OSError, that name the file."""
    try:
        yield
    except (FileNotFoundError, MemoryError):
        raise
    except OSError as error:
        # such as a folder; the library names no file then
        raise OSError(f"{path}: cannot be read as a file: {error}") from error
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
            raise
        # such as of a type, bfloat16 or float8, that numpy does not have, or of metadata that nest deeply
        raise ValueError(f"{path}: is damaged or no safetensors file: {str(error)[:200]}") from None


def _metadata(path: Path, file: safe_open) -> dict[str, Any]:
    metadata = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    if not isinstance(metadata, dict) or "crc32" not in metadata:
        raise ValueError(f"{path}: is no file of this program")
    return metadata


def _contents(arrays: Arrays) -> Iterator[bytes | memoryview]:
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        yield f"{name}{array.dtype.str}{array.shape}".encode()
        # as bytes: there are types, such as bfloat16, that no buffer may be of
        yield array.reshape(-1).view(np.uint8).data
