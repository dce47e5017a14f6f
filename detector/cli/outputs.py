"""What commands may write: never a file that they read nor, unless they are told to, a file of others.

An option that names something to write has one of these types; `console.Parser` then checks it against all others.
What is read besides that, such as the images of a folder or a data set, goes to `check_outputs` when it is known.
"""

from __future__ import annotations

import errno
import os
import re
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detector.results.files import LONGEST_NAME, ResultFolder, is_listed
from detector.runtime.files import is_stream, read_metadata

_START = 1 << 16  # bytes


@dataclass(frozen=True)
class OutputFile:
    """Type of an option that names a file to write, refused before any work where it cannot be; ``-`` may be stdout.

    ours: whether a file is one that such an option wrote earlier, and may be replaced.
    updates: an option whose file may be written itself, since what it holds is kept.
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
    """Type of an option that names a folder to write to, refused before any work where it cannot be.

    Which files may be written into it, `result_folder` knows.
    """

    def __call__(self, text: str) -> Path:
        path = Path(text)
        try:
            check_writable(path, path.absolute())
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None
        return path


Output = OutputFile | OutputFolder


def writable_file(path: Path) -> Path:
    """The path itself; ValueError for a file that cannot be written. Nothing is made, and ``-`` may be stdout."""
    if str(path) != "-":
        check_writable(path, path.absolute().parent)
        if path.is_dir():
            raise ValueError(f"{path} is a folder, but must be a file")
    return path


def check_writable(path: Path, folder: Path) -> None:
    """Raise ValueError where ``path`` cannot be written, since its folder, or what there is of it, must not be."""
    try:
        stream = is_stream(path) and folder != path.absolute()
        check_name(path)
        nearest = _nearest(folder)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {(error.strerror or '').lower()}") from None
    if stream:
        if not os.access(path, os.W_OK):
            raise ValueError(f"{path} cannot be written: it may not be written to")
    elif not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise ValueError(f"{path} cannot be written: {nearest} is not a folder that may be written to")


def cache_folder(text: str) -> Path:
    """Type of an option that names a folder to keep files in; one that holds all of them need not be writable."""
    path = Path(text)
    if not (nearest := _nearest(path.absolute())).is_dir():
        raise ArgumentTypeError(f"{path} cannot be a folder: {nearest} is none")
    return path


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it, that is there; a link that leads nowhere is."""
    return next(each for each in (folder, *folder.parents) if os.path.lexists(each))


def check_name(path: Path) -> None:
    """Raise OSError for a path that no file can have: too long, or a link that leads to itself."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        # of folders that are not there yet, the system says nothing
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path)) from None


def begins(pattern: bytes) -> Callable[[Path], bool]:
    """Whether a file is empty or begins with what a regular expression matches."""
    # no function inside of a function, which workers could not be sent with the options
    return partial(_begins, pattern)


def _begins(pattern: bytes, path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_START)
    return not start or re.match(pattern, start) is not None


def is_model(path: Path) -> bool:
    """Whether a file is empty or holds a model, or layers, that this program wrote."""
    try:
        return path.stat().st_size == 0 or "format" in read_metadata(path)
    except ValueError:
        return False


output_file = OutputFile(is_listed)
output_folder = OutputFolder()
output_records = OutputFile(begins(rb'\[(\]\s*$|\n  \{\n    "image": .*\n    "width": \d+,\n    "height": \d+,\n)'))
"""Of `console.for_each_image`."""
output_numbers = OutputFile(begins(rb'\{\n  "(metric": "|machine": |images": \d)'))
"""Of evaluations and benchmarks."""
output_model = OutputFile(is_model)


def check_outputs(options: Namespace, read: Iterable[Path] = ()) -> None:
    """Raise ValueError where a file that an option names to write is read, or another one's, or written twice.

    Read is what other options name, and ``read``. A file of others is one that its option did not write earlier; with
    ``--overwrite`` it may be replaced all the same, but for what is read, and what lies in folders that are read.
    """
    taken: dict[str, str] = {}
    others = [*read]
    for name, path, kind in _files_to_write(options):
        inputs = [*_inputs(options, kind), *others]
        real, named = os.path.realpath(path), f"--{name.replace('_', '-')} {path}"
        if real in taken:
            raise ValueError(f"{named} would be written by --{taken[real]}, too")
        taken[real] = name
        if not path.exists() or is_stream(path):
            continue
        if real in {os.path.realpath(each) for each in inputs}:
            raise ValueError(f"{named} would replace what is read")
        if kind.ours(path):
            continue
        folders = [os.path.realpath(each) for each in inputs if each.is_dir()]
        if any(real.startswith(f"{folder}{os.sep}") for folder in folders):
            raise ValueError(f"{named} would replace a file in a folder that is read")
        if not options.overwrite:
            raise ValueError(f"{named} is there, and not written by this program; say --overwrite to replace it")


def check_folder(options: Namespace, folder: Path, read: Iterable[Path] = ()) -> None:
    """Raise ValueError where a folder that is replaced as a whole holds what is read."""
    real = os.path.realpath(folder) + os.sep
    for each in [*_inputs(options, None), *read]:
        if os.path.realpath(each).startswith(real):
            raise ValueError(f"{each} is read: it must not lie in {folder}, which is replaced")


def result_folder(options: Namespace, name: str, read: Iterable[Path] = ()) -> ResultFolder:
    """The folder that an option names, for files that replace nothing of what `check_outputs` keeps."""
    files = [path for other, path, _ in _files_to_write(options) if other != name]
    inputs = [*_inputs(options, None), *read, *files]
    return ResultFolder(getattr(options, name), inputs, options.overwrite)


def _files_to_write(options: Namespace) -> Iterator[tuple[str, Path, OutputFile]]:
    for name, kind in _outputs(options).items():
        path = getattr(options, name)
        if isinstance(kind, OutputFile) and path is not None and str(path) != "-" and not path.is_dir():
            yield name, path, kind


def _outputs(options: Namespace) -> dict[str, Output]:
    found: dict[str, Output] = getattr(options, "outputs", {})
    return found


def _inputs(options: Namespace, kind: OutputFile | None) -> list[Path]:
    """Paths that options name, but for outputs; and words of lists, such as images, where there is such a file."""
    found: list[Path] = []
    for name, value in vars(options).items():
        if name not in _outputs(options) and not (kind and name == kind.updates):
            found += [value] if isinstance(value, Path) else []
            words = value if isinstance(value, list) else []
            found += [Path(each) for each in words if isinstance(each, Path) or os.path.isfile(str(each))]  # noqa: PTH113
    return found
