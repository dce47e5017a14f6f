"""Files that survive a crash, digests of contents, the cache directory, and files behind URLs."""

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

from detector.runtime.optional import MissingPackageError, optional

TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")
"""Names of half-written files; a killed run leaves them behind."""

RESULTS_MARK = ".spp-detect"
"""File in folders of results, which lists those of the program."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name next to ``path`` to write to.

    When the block succeeds, the file is renamed to ``path``, else removed: no reader, crash or second writer sees a
    half-written file. The target of a link is replaced, not the link; devices and pipes are written to directly. Raises
    OSError, which names ``path``, when it cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    # without the name, which may have the maximum length
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
        # the system does not name the file on a full disk
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Return whether a path is a device, a pipe, or an open file of a process, which cannot be replaced."""
    if not path.exists() or path.is_dir():
        return False
    return not path.is_file() or Path(os.path.realpath(path.parent)).is_relative_to("/proc") or _leads_to_proc(path)


def _leads_to_proc(path: Path) -> bool:
    """Return whether a link is one like /dev/stdout."""
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
    """Return absolute path, modification time and size, which change with the contents of a file."""
    status = path.stat()
    return str(path.resolve()), status.st_mtime_ns, status.st_size


def read_text(path: Path, max_bytes: int) -> str:
    """Read a UTF-8 file; raise OSError where that fails, ValueError where it is larger or not UTF-8."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"{path}: is larger than {max_bytes} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8: {error}") from None


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all; create missing folders."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all; create missing folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def digest(parts: Iterable[Any]) -> str:
    """Return the SHA-256, 64 hexadecimal digits, of concatenated buffers (bytes, C-contiguous arrays)."""
    result = hashlib.sha256()
    for part in parts:
        result.update(part)
    return result.hexdigest()


def fingerprint(settings: Mapping[str, object]) -> str:
    """Return the first 16 digits of the `digest` of ``settings`` as sorted JSON, to name a file or a folder."""
    return digest([json.dumps(settings, sort_keys=True).encode()])[:16]


def checksum(parts: Iterable[Any]) -> str:
    """Return the CRC-32, 8 hexadecimal digits, of concatenated buffers: fast, and enough to detect damage."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"


def cache_root() -> Path:
    """Return the default cache directory of features, by the XDG base directory specification.

    Raises OSError without a home folder.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    # the specification: a relative path is invalid, and to be ignored
    try:
        base = Path(root) if Path(root).is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        raise OSError("this user has no home folder: set XDG_CACHE_HOME to a folder for caches") from None
    return base / "spp-detector" / "features"


def cache_of(data: Path) -> Path:
    """Return the cache directory of one data set, below `cache_root`; images of two may have the same names."""
    path = data.resolve()
    return cache_root() / f"{slug(path)}-{fingerprint({'data': str(path)})[:8]}"


def slug(path: Path) -> str:
    """Return the name of a folder, or of a file without suffix, as letters, digits and ``_.-``."""
    path = path.resolve()
    name = path.name if path.is_dir() else path.stem
    return re.sub(r"[^\w.-]+", "-", name).strip("-._")[:80] or "data"


def is_url(name: str | Path) -> bool:
    """Return whether a name is a URL, and not a path."""
    return isinstance(name, str) and "://" in name


@contextmanager
def open_binary(name: str | Path) -> Iterator[BinaryIO]:
    """Open the file of a path, or of a URL, which is read as a whole.

    Raises OSError where it cannot be read, and MissingPackageError without fsspec or its package for such a URL.
    """
    if is_url(name):
        yield BytesIO(_read_url(str(name)))
    else:
        with Path(name).open("rb") as file:
            yield file


def _read_url(url: str) -> bytes:
    fsspec = optional("fsspec", "cloud")
    try:
        with fsspec.open(url, "rb") as file:
            content: bytes = file.read()
            return content
    except ImportError as error:
        raise MissingPackageError(f"{url}: {error}") from None
    except Exception as error:  # each service has errors of its own
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise OSError(errno.EIO, reason, url) from error


@cache
def program_digest() -> str:
    """Return the digest of all sources of the package."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return digest(path.read_bytes() for path in sources)
