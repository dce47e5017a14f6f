"""Files that must survive a crash, and what is in them: whole or not there, checked when read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from detector.runtime.optional import MissingPackageError, optional

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


MAX_NAME = 255
"""Bytes of the longest file name on all common file systems."""


def check_writable(path: Path, folder: Path) -> None:
    """Raise ValueError where ``path``, or ``folder``, its own or the one that it is in, cannot be written to."""
    try:
        stream = is_stream(path) and folder != path.absolute()
        _check_name(path)
        nearest = nearest_existing(folder)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {(error.strerror or '').lower()}") from None
    if stream:
        if not os.access(path, os.W_OK):
            raise ValueError(f"{path} cannot be written: it may not be written to")
    elif not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise ValueError(f"{path} cannot be written: {nearest} is not a folder that may be written to")


def nearest_existing(folder: Path) -> Path:
    """Return the folder, or the first above it, that exists; a broken link does."""
    return next(each for each in (folder, *folder.parents) if os.path.lexists(each))


def _check_name(path: Path) -> None:
    """Raise OSError for a path that no file can have: too long, or a link that leads to itself."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        # the system says nothing about names in folders that are missing
        if any(len(os.fsencode(part)) > MAX_NAME for part in path.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path)) from None


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


def digest(parts: Iterable[Any]) -> str:
    """SHA-256, 64 hexadecimal digits, of buffers (bytes, C-contiguous arrays) one after the other."""
    result = hashlib.sha256()
    for part in parts:
        result.update(part)
    return result.hexdigest()


def fingerprint(settings: Mapping[str, object]) -> str:
    """First 16 digits of the `digest` of ``settings`` as JSON with sorted keys: a name for a file or a folder."""
    return digest([json.dumps(settings, sort_keys=True).encode()])[:16]


def checksum(parts: Iterable[Any]) -> str:
    """CRC-32, 8 hexadecimal digits, of buffers one after the other: quick, and enough to notice damage."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"


def cache_root() -> Path:
    """The folder of all features that commands keep by themselves, by the XDG base directory specification."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    # the specification: a relative path is invalid, and to be ignored
    base = Path(root) if Path(root).is_absolute() else Path.home() / ".cache"
    return base / "spp-detector" / "features"


def cache_of(data: Path) -> Path:
    """The folder in `cache_root` of one data set; another for each, since their images may have the same names."""
    path = data.resolve()
    return cache_root() / f"{slug(path)}-{fingerprint({'data': str(path)})[:8]}"


def slug(path: Path) -> str:
    """The name of a file, without its ending, or of a folder as part of another name: letters, digits, ``_.-``."""
    path = path.resolve()
    name = path.name if path.is_dir() else path.stem
    return re.sub(r"[^\w.-]+", "-", name).strip("-._")[:80] or "data"


def is_address(name: str | Path) -> bool:
    """Whether a name is an address, and not the path of a file."""
    return isinstance(name, str) and "://" in name


@contextmanager
def open_binary(name: str | Path) -> Iterator[BinaryIO]:
    """The file of a path or, read as a whole, of an address.

    Raises OSError where it cannot be read, and MissingPackageError without fsspec or what it needs for such an address.
    """
    if is_address(name):
        yield BytesIO(_read(str(name)))
    else:
        with Path(name).open("rb") as file:
            yield file


def _read(address: str) -> bytes:
    fsspec = optional("fsspec", "cloud")
    try:
        with fsspec.open(address, "rb") as file:
            content: bytes = file.read()
            return content
    except ImportError as error:
        raise MissingPackageError(f"{address}: {error}") from None
    except Exception as error:  # each service has errors of its own
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise OSError(errno.EIO, reason, address) from error


@cache
def program_digest() -> str:
    """The digest of all sources of the package."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return digest(path.read_bytes() for path in sources)
