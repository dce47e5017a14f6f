"""The images that a command is to work on: named one by one, or a list of any length."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from detector.images.files import find_images


class ImageNames:
    """Paths and addresses of images, to be gone through again and again.

    names: strings, or the open file of a list of any length, a name a line, which stays on disk. len: how many there
    are. digest: of all of them, in their order.
    """

    def __init__(self, names: Sequence[str] | IO[bytes]) -> None:
        self._names = names
        content = hashlib.sha256()
        self._count = 0
        for name in self:
            content.update(os.fsencode(name) + b"\0")
            self._count += 1
        self.digest = content.hexdigest()

    def __iter__(self) -> Iterator[str]:
        if isinstance(self._names, Sequence):
            yield from self._names
            return
        self._names.seek(0)
        for line in self._names:
            if name := line.rstrip(b"\r\n"):
                yield name_of(os.fsdecode(name))

    def __len__(self) -> int:
        return self._count


def name_of(text: str) -> str:
    """An address as it is; a path without what says nothing."""
    return text if "://" in text else str(Path(text))


def named_images(patterns: list[str], list_file: Path | None) -> ImageNames:
    """The images of a list, or those that files, folders and globs name, with standard input in place of ``-``.

    Lines of a list are taken as they are: it may be as long as it likes. Raises the errors of `find_images`, and
    ValueError for none at all.
    """
    if list_file is None:
        return ImageNames([*map(str, find_images([*_listed(patterns)]))])
    if str(list_file) == "-":
        stream: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (as long as its names)
        shutil.copyfileobj(sys.stdin.buffer, stream)
    else:
        stream = list_file.open("rb")
    names = ImageNames(stream)
    if not len(names):
        raise ValueError(f"{list_file}: names no image")
    return names


def _listed(patterns: list[str]) -> Iterator[str]:
    """The patterns, with the lines of standard input in place of ``-``."""
    for pattern in patterns:
        if pattern == "-":
            yield from (os.fsdecode(name) for line in sys.stdin.buffer if (name := line.rstrip(b"\r\n")))
        else:
            yield pattern
