"""Check what a verb writes: never a file that it reads nor, without ``--overwrite``, a file of others.

Options that name outputs have one of these types; `console.Parser` checks them against all other options. Inputs that
are known later, such as the images of a folder or a data set, go to `check_outputs`.
"""

from __future__ import annotations

import os
import re
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detector.images.files import WRITTEN_SUFFIXES
from detector.images.film import WRITTEN_CODECS
from detector.results.files import ResultFolder, is_listed
from detector.runtime.array_files import read_metadata
from detector.runtime.files import check_writable, is_stream, nearest_existing

_START = 1 << 16  # bytes
_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


@dataclass(frozen=True)
class OutputFile:
    """Type of an option that names a file to write; ``-`` may be stdout. Refuses, before any work, what cannot be.

    ours: returns whether such an option wrote a file earlier, which may be replaced.
    updates: an input option whose file may be written itself, since its contents are kept.
    """

    ours: Callable[[Path], bool]
    updates: str = ""

    def __call__(self, text: str) -> Path:
        try:
            return writable_file(Path(text))
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None


@dataclass(frozen=True)
class OutputFolder:
    """Type of an option that names a folder to write to. Refuses, before any work, what cannot be written.

    `result_folder` knows which files may be written into it.
    """

    def __call__(self, text: str) -> Path:
        path = Path(text)
        try:
            check_folder_writable(path)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None
        if path.suffix.lower() in WRITTEN_SUFFIXES and not path.is_dir():
            raise ArgumentTypeError(f"{path} must be a folder, in which results have the names of their images")
        return path


class FolderOrFilm(OutputFolder):
    """Type of the option that names a folder of results, or the drawn film to write."""

    def __call__(self, text: str) -> Path:
        return writable_film(text) if is_drawn_film(Path(text)) else super().__call__(text)


def writable_film(text: str) -> Path:
    """Parse the name of a film to write. Raises ArgumentTypeError for one that cannot be written."""
    try:
        return writable_file(Path(text))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def is_drawn_film(path: Path) -> bool:
    """Return whether ``--output`` names a film, not a folder."""
    return path.suffix.lower() in WRITTEN_CODECS and not path.is_dir()


Output = OutputFile | OutputFolder


def check_folder_writable(path: Path) -> None:
    """Raise ValueError for a folder that cannot be written. A default is not checked where nothing is written."""
    check_writable(path, path.absolute())


def writable_file(path: Path) -> Path:
    """Return the path, or ``-`` for a name of standard output. Raises ValueError for a file that cannot be written."""
    if str(path) in _STDOUT:
        return Path("-")
    if str(path) != "-":
        check_writable(path, path.absolute().parent)
        if path.is_dir():
            raise ValueError(f"{path} is a folder, but must be a file")
    return path


def cache_folder(text: str) -> Path:
    """Parse an option that names a cache directory; a complete one need not be writable."""
    path = Path(text)
    if not (nearest := nearest_existing(path.absolute())).is_dir():
        raise ArgumentTypeError(f"{path} cannot be a folder: {nearest} is none")
    return path


def begins(pattern: bytes) -> Callable[[Path], bool]:
    """Return a test of whether a file is empty or begins with a match of a regular expression."""
    # no function inside of a function: options are sent to workers
    return partial(_begins, pattern)


def _begins(pattern: bytes, path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_START)
    return not start or re.match(pattern, start) is not None


def is_model(path: Path) -> bool:
    """Return whether a file is empty or a model that this program wrote."""
    try:
        return path.stat().st_size == 0 or "format" in read_metadata(path)
    except ValueError:
        return False


output_file = OutputFile(is_listed)
output_folder = OutputFolder()
output_records = OutputFile(begins(rb'\[(\]\s*$|\n  \{\n    "image": .*\n    "width": \d+,\n    "height": \d+,\n)'))
"""JSON about images."""
output_numbers = OutputFile(begins(rb'\{\n  "(metric": "|machine": |images": \d)'))
"""JSON of evaluations and benchmarks."""
output_model = OutputFile(is_model)


def check_outputs(options: Namespace, inputs: Iterable[Path] = ()) -> None:
    """Raise ValueError where a file to write is read, is written twice, or is a file of others.

    Inputs are the files that other options name, and ``inputs``. With ``--overwrite``, a file of others may be
    replaced, but never an input or a file in a folder that is read.
    """
    taken: dict[str, str] = {}
    more = [*inputs]
    for name, path, kind in _files_to_write(options):
        read = [*_inputs(options, kind), *more]
        real, named = os.path.realpath(path), f"--{name.replace('_', '-')} {path}"
        if real in taken:
            raise ValueError(f"{named} would be written by --{taken[real]}, too")
        taken[real] = name
        if not path.exists() or is_stream(path):
            continue
        if real in {os.path.realpath(each) for each in read}:
            raise ValueError(f"{named} would replace an input")
        if kind.ours(path):
            continue
        folders = [os.path.realpath(each) for each in read if each.is_dir()]
        if any(real.startswith(f"{folder}{os.sep}") for folder in folders):
            raise ValueError(f"{named} would replace a file in a folder that is read")
        if not options.overwrite:
            raise ValueError(f"{named} exists and was not written by this program; --overwrite replaces it")


def check_folder(options: Namespace, folder: Path, inputs: Iterable[Path] = ()) -> None:
    """Raise ValueError where a folder that is replaced as a whole holds an input."""
    real = os.path.realpath(folder) + os.sep
    for each in [*_inputs(options, None), *inputs]:
        if os.path.realpath(each).startswith(real):
            raise ValueError(f"{each} is read: it must not lie in {folder}, which is replaced")


def result_folder(options: Namespace, name: str, inputs: Iterable[Path] = ()) -> ResultFolder:
    """Return the folder that an option names, for files that replace neither inputs nor other outputs."""
    files = [path for other, path, _ in _files_to_write(options) if other != name]
    return ResultFolder(getattr(options, name), [*_inputs(options, None), *inputs, *files], options.overwrite)


def _files_to_write(options: Namespace) -> Iterator[tuple[str, Path, OutputFile]]:
    for name, kind in _outputs(options).items():
        path = getattr(options, name)
        if isinstance(kind, OutputFile) and path is not None and str(path) != "-" and not path.is_dir():
            yield name, path, kind


def _outputs(options: Namespace) -> dict[str, Output]:
    found: dict[str, Output] = getattr(options, "outputs", {})
    return found


def _inputs(options: Namespace, kind: OutputFile | None) -> list[Path]:
    """Return the paths that options name, other than outputs, and the words of lists that are files, such as images."""
    found: list[Path] = []
    for name, value in vars(options).items():
        if name not in _outputs(options) and not (kind and name == kind.updates):
            found += [value] if isinstance(value, Path) else []
            words = value if isinstance(value, list) else []
            found += [Path(each) for each in words if isinstance(each, Path) or os.path.isfile(str(each))]  # noqa: PTH113
    return found
