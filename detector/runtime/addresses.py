"""Files by their path, or by an address that fsspec knows, such as s3://bucket/name or https://host/name."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from detector.runtime.optional import MissingPackageError, optional


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
