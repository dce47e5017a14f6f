"""Images of a command line: the names that arguments and lists stand for, and a loop over them."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from detector.cli.console import USAGE_ERROR, lines_stream, print_error
from detector.images.files import find_images, read_image
from detector.results.streams import json_array

Handler = Callable[[Path, NDArray[np.uint8], TextIO], dict[str, Any]]
"""Takes path, image and the stream of result lines; returns what JSON says about the image."""


class ImageNames:
    """Paths and URLs of images that can be iterated again and again, in order.

    names: strings, or the open file of a list of any length, one name per line, which stays on disk.
    digest: SHA-256 of all names.
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
                yield normalize_name(os.fsdecode(name))

    def __len__(self) -> int:
        return self._count


def normalize_name(text: str) -> str:
    """Normalize a path; return URLs unchanged."""
    return text if "://" in text else str(Path(text))


def named_images(patterns: list[str], list_file: Path | None) -> ImageNames:
    """Return the images of a list, or of files, folders and globs; ``-`` stands for the lines of standard input.

    Lines of a list are not checked: it may be of any length. Raises the errors of `find_images`, and ValueError for an
    empty list.
    """
    if list_file is None:
        return ImageNames([*map(str, find_images([*_expanded(patterns)]))])
    if str(list_file) == "-":
        stream: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as its names are used)
        shutil.copyfileobj(sys.stdin.buffer, stream)
    else:
        stream = list_file.open("rb")
    names = ImageNames(stream)
    if not len(names):
        raise ValueError(f"{list_file}: names no image")
    return names


def _expanded(patterns: list[str]) -> Iterator[str]:
    for pattern in patterns:
        if pattern == "-":
            yield from (os.fsdecode(name) for line in sys.stdin.buffer if (name := line.rstrip(b"\r\n")))
        else:
            yield pattern


def for_each_image(paths: Iterable[Path], prepare: Callable[[], Handler], json_file: Path | None) -> int:
    """Read and handle images, write their results as JSON to ``json_file``, if given, and return the exit code.

    ``prepare`` makes the handler when the first image could be read. An image that cannot be read, or whose handler
    raises ValueError or OSError, costs a line on stderr; the others are still handled.
    """
    handle: Handler | None = None
    failed = False
    with ExitStack() as stack:
        # records are written as they come, so that memory does not grow with the number of images
        add_record = None if json_file is None else stack.enter_context(json_array(json_file))
        lines = lines_stream(json_file, needed=add_record is not None)
        for path in paths:
            try:
                image = read_image(path)
                handle = handle or prepare()
                found = handle(path, image, lines)
            except BrokenPipeError:  # the reader of our output is gone, as in `spp classify ... | head`
                raise
            except (ValueError, OSError) as error:  # such as an image too narrow for the network
                print_error(error, str(path))
                failed = True
                continue
            if add_record is not None:
                add_record({"image": str(path), "width": image.shape[1], "height": image.shape[0], **found})
    return USAGE_ERROR if failed else 0
