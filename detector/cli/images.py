"""Images of a command line: the names that arguments and lists stand for, and a loop over them."""

from __future__ import annotations

import codecs
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
from detector.images.decoding import START_LENGTH, image_format
from detector.images.files import find_images, read_image
from detector.results.streams import json_array
from detector.runtime.files import is_url

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
        yield from map(normalize_name, _lines(self._names))

    def __len__(self) -> int:
        return self._count


def normalize_name(text: str) -> str:
    """Normalize a path; return URLs unchanged."""
    return text if is_url(text) else str(Path(text))


def named_images(patterns: list[str], list_file: Path | None) -> ImageNames:
    """Return the images of a list, or of files, URLs, folders and globs; ``-`` stands for a list on standard input.

    Lines of a list are not checked: it may be of any length. Raises the errors of `find_images`, and ValueError for an
    empty list, and for an image in place of one.
    """
    if list_file is not None:
        return _listed(list_file)
    found: dict[str, None] = {}
    for pattern in patterns:
        if pattern == "-":
            names: Iterable[str | Path] = find_images([*_listed(Path("-"))])
        else:
            names = [pattern] if is_url(pattern) else find_images([pattern])
        found |= dict.fromkeys(map(str, names))
    # each file once, whatever name leads to it
    files = {name if is_url(name) else os.path.realpath(name): name for name in reversed(found)}
    return ImageNames([*reversed(files.values())])


def _listed(path: Path) -> ImageNames:
    stream: IO[bytes] = path.open("rb") if str(path) != "-" else sys.stdin.buffer
    if not stream.seekable() or str(path) == "-":
        copy = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as its names are used)
        shutil.copyfileobj(stream, copy)
        stream = copy
    stream.seek(0)
    if image_format(stream.read(START_LENGTH)) is not None:
        advice = "; give /dev/stdin to detect in an image" if str(path) == "-" else ""
        raise ValueError(f"{path}: must be a list of images, but is an image{advice}")
    names = ImageNames(stream)
    if not len(names):
        raise ValueError(f"{path}: names no image")
    return names


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a list that are not empty, without a byte order mark."""
    for number, line in enumerate(stream):
        if name := (line.removeprefix(codecs.BOM_UTF8) if number == 0 else line).rstrip(b"\r\n"):
            if b"\0" in name:
                raise ValueError(f"line {number + 1} of the list holds a zero byte: it must be UTF-8 text")
            yield os.fsdecode(name)


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
