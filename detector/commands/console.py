"""What all commands do alike: exit codes, one line for a user's mistake, progress, JSON, a walk over images."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np
from numpy.typing import NDArray

from detector import __version__
from detector.commands.telling import Telling, console, verbosity
from detector.runtime import files
from detector.runtime.json_stream import json_array
from detector.runtime.map_images import one_line
from detector.runtime.optional import MissingPackageError

USAGE_ERROR = 2
_INTERRUPTED = 130

Handler = Callable[[Path, NDArray[np.uint8], TextIO], dict[str, Any]]


class Parser(argparse.ArgumentParser):
    """A parser that knows ``--version``, ``-q`` and ``-v``; a wrong option costs one line and exit code 2."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
        self.add_argument("-q", "--quiet", action=_Tell, const=logging.ERROR, help="tell nothing but errors")
        self.add_argument("-v", "--verbose", action=_Tell, const=logging.DEBUG, help="tell what takes how long, too")

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {message}; see --help\n")


class _Tell(argparse.Action):
    """An option without a value that sets what is told from here on."""

    def __init__(self, option_strings: Sequence[str], dest: str, const: int, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, const=const, help=help)

    def __call__(self, *_: object) -> None:
        verbosity.level = self.const


def output_file(text: str) -> Path:
    """Type of an option that names a file to write, refused before any work where it cannot be; ``-`` may be stdout."""
    try:
        return writable_file(Path(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def writable_file(path: Path) -> Path:
    """The path itself; ValueError for a file that cannot be written. Nothing is made, and ``-`` may be stdout."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder, but must be a file")
    if str(path) != "-":
        check_writable(path, path.absolute().parent)
    return path


def check_writable(path: Path, folder: Path) -> None:
    """Raise ValueError where ``path`` cannot be written, since its folder, or what there is of it, must not be."""
    nearest = _nearest(folder)
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise ValueError(f"{path} cannot be written: {nearest} is not a folder that may be written to")


def output_folder(text: str) -> Path:
    """Type of an option that names a folder to write to, refused before any work where it cannot be."""
    path = Path(text)
    try:
        check_writable(path, path.absolute())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return path


def cache_folder(text: str) -> Path:
    """Type of an option that names a folder to keep files in; one that holds all of them need not be writable."""
    path = Path(text)
    if not (nearest := _nearest(path.absolute())).is_dir():
        raise argparse.ArgumentTypeError(f"{path} cannot be a folder: {nearest} is none")
    return path


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it, that is there; a link that leads nowhere is."""
    return next(each for each in (folder, *folder.parents) if os.path.lexists(each))


def run(main: Callable[[], int]) -> NoReturn:
    """Exit with the code that ``main`` returns; with 2 and one line for ValueError, OSError or a missing package.

    Set DETECTOR_TRACEBACK=1 to see where an error came from.
    """
    verbosity.level = logging.INFO
    logging.getLogger("detector").setLevel(logging.DEBUG)
    try:
        with console.shown():
            code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader of our output is gone, as in `detect.py ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (ValueError, OSError, MissingPackageError) as error:
        if os.environ.get("DETECTOR_TRACEBACK"):
            raise
        report(error)
        code = USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = _INTERRUPTED
    sys.exit(code)


def command(main: Callable[[], int]) -> Callable[[], NoReturn]:
    """Make of ``main`` what scripts and installed commands call: `run` of it."""

    @wraps(main)
    def script() -> NoReturn:
        run(main)

    return script


def report(error: BaseException) -> None:
    """Say in one line on stderr what went wrong."""
    print(f"error: {one_line(error)}", file=sys.stderr)


def for_each_image(
    paths: Iterable[Path],
    prepare: Callable[[], Handler],
    json_file: Path | None,
    also: Sequence[Callable[[Mapping[str, Any]], None]] = (),
) -> int:
    """Read and handle images, write what is found as JSON where ``json_file`` says so, and return the exit code.

    prepare: makes the handler, when the first image could be read. The handler takes path, image and the stream for
        lines of results, and returns what belongs into the JSON about it; ValueError and OSError cost this image alone.
    also: what else is called with the JSON's record of each image.
    An image that cannot be read or handled costs a line on stderr; the others are still done.
    """
    from detector.images.files import read_image

    lines = sys.stderr if str(json_file) == "-" else sys.stdout
    handle: Handler | None = None
    failed = False
    with ExitStack() as stack:
        # records are written as they come, so that memory does not grow with the images
        records = [*also] if json_file is None else [stack.enter_context(json_array(json_file)), *also]
        for path in paths:
            try:
                image = read_image(path)
            except (ValueError, OSError) as error:
                report(error)
                failed = True
                continue
            handle = handle or prepare()
            try:
                found = handle(path, image, lines)
            except BrokenPipeError:  # the reader of our output is gone, as in `detect.py ... | head`
                raise
            except (ValueError, OSError) as error:  # such as an image too narrow for the network
                report(error if str(path) in str(error) else ValueError(f"{path}: {error}"))
                failed = True
                continue
            for add in records:
                add({"image": str(path), "width": image.shape[1], "height": image.shape[0], **found})
    return USAGE_ERROR if failed else 0


def printable(path: str | Path) -> str:
    """A path as a line of results may hold it: tabs, line ends and bytes that are no UTF-8 are escaped."""
    escaped = str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in escaped)


def progress(items: Iterable[Any], title: str) -> Iterator[Any]:
    """Pass ``items`` on, with a bar on stderr; where that is no terminal, a line every thirty seconds."""
    with Telling() as telling:
        yield from telling(items, title)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all; ``-`` is standard output."""
    if str(path) == "-":
        print(json.dumps(content, indent=2))
    else:
        files.write_json(path, content)
