"""Decorators of numba kernels, with one set of options, checked cache files, and one line while they compile."""

import os
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

import numpy as np
from numba import config, njit
from numba.core import event
from numba.core.caching import IndexDataCacheFile
from numpy.typing import NDArray

from detector.runtime.files import cache_root, digest

Array = NDArray[Any]
_DIGITS = 64
"""Length of the checksum at the beginning of a file."""
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile ``function`` on first use, without the GIL, and cache the machine code on disk.

    It is cached next to the source, in this program's cache directory where the source is read-only, or in
    NUMBA_CACHE_DIR. Where none can be written, every process compiles again. Files are named by all the code that they
    contain: that of other kernels, too.
    """
    return _compiled(function)


def reordering_kernel(function: Kernel) -> Kernel:
    """Compile a `kernel` that may add floating-point numbers in any order, which is faster."""
    return _compiled(function, fastmath={"reassoc"})


def fusing_kernel(function: Kernel) -> Kernel:
    """Compile a `kernel` that may fuse multiplication and addition, which is faster and more exact."""
    return _compiled(function, fastmath={"contract"})


def _compiled(function: Kernel, **settings: Any) -> Kernel:
    try:
        with _own_cache_directory(Path(function.__code__.co_filename).parent):
            dispatcher = njit(cache=True, nogil=True, **settings)(function)
    except (RuntimeError, OSError):  # there is no place for files
        return njit(nogil=True, **settings)(function)
    cache = dispatcher._cache
    cache._cache_file = _CheckedFiles(cache.cache_path, cache._impl.filename_base, dispatcher)
    return dispatcher


@contextmanager
def _own_cache_directory(sources: Path) -> Iterator[None]:
    """Let numba write into this program's cache directory inside, where it cannot write next to the sources."""
    before = config.CACHE_DIR
    if not before and not os.access(sources, os.W_OK):
        config.CACHE_DIR = str(cache_root().parent / "kernels")
    try:
        yield
    finally:
        config.CACHE_DIR = before


def _contents(value: Any, seen: set[int]) -> Iterator[bytes]:
    """Yield all that decides about the machine code of a kernel: its code, and the kernels and constants that it names.

    seen: the ids of kernels that were described.
    """
    if isinstance(function := getattr(value, "py_func", value), FunctionType):
        yield function.__qualname__.encode()
        if id(function) not in seen:
            seen.add(id(function))
            yield repr(sorted(getattr(value, "targetoptions", {}).items())).encode()
            named = [cell.cell_contents for cell in function.__closure__ or ()]
            for name in _code_contents(function.__code__, named):
                yield name.encode()
                if name in function.__globals__:
                    named.append(function.__globals__[name])
            for each in (function.__defaults__, *named):
                yield from _contents(each, seen)
    elif isinstance(value, tuple):
        for each in value:
            yield from _contents(each, seen)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype.str}{value.shape}".encode() + value.tobytes()
    else:
        yield (value.__name__ if isinstance(value, ModuleType) else repr(value)).encode()


def _code_contents(code: CodeType, constants: list[Any]) -> Iterator[str]:
    """Yield the instructions and names of a function and of those inside it; collect its constants."""
    yield repr((code.co_code, code.co_varnames, code.co_freevars, code.co_cellvars))
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _code_contents(each, constants)
        else:
            constants.append(each)


class _CheckedFiles(IndexDataCacheFile):
    """numba's cache files with checksums: a damaged one is reported and replaced, never run.

    They are named at their first use, when all that the kernel names is defined.
    """

    def __init__(self, folder: str, base: str, dispatcher: Any) -> None:
        self._folder, self._base, self._dispatcher = Path(folder), base, dispatcher
        self._named = False

    def _name_files(self) -> None:
        if not self._named:
            contents = digest(_contents(self._dispatcher, set()))
            super().__init__(str(self._folder), f"{self._base}-{contents[:16]}", contents)
            self._named = True

    def _remove_older(self) -> None:
        """Remove the files of this kernel's earlier code."""
        # numba's base: name, line and version of Python
        name, _, version = self._base.rpartition("-")
        older = re.compile(rf"{re.escape(name)}-\d+{re.escape(version.lstrip('0123456789'))}[-.].*nb[ic]")
        for path in self._folder.iterdir():
            if older.fullmatch(path.name) and not path.name.startswith(Path(self._index_path).stem):
                path.unlink()

    def load(self, key: Any) -> Any:
        self._name_files()
        try:
            return super().load(key)
        except Exception as error:  # unpickling damaged data may raise nearly anything
            reason = error.strerror if isinstance(error, OSError) else "damaged"
            print(f"{self._index_path}: {str(reason).lower()}; compiling it again", file=sys.stderr, flush=True)
            with suppress(OSError):
                self.flush()
            return None

    def save(self, key: Any, data: Any) -> None:
        self._name_files()
        # such as a full disk: every process compiles again
        with suppress(OSError):
            super().save(key, data)
            self._remove_older()

    def _save_index(self, overloads: Any) -> None:
        self._write(self._index_path, self._dump((self._version, self._source_stamp, overloads)))

    def _load_index(self) -> Any:
        if not Path(self._index_path).exists():
            return {}
        version, stamp, overloads = pickle.loads(_checked(self._index_path))  # nosec B301: of our own folder
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), self._dump(data))

    def _load_data(self, name: str) -> Any:
        return pickle.loads(_checked(self._data_path(name)))  # nosec B301: of our own folder

    def _write(self, path: str, content: bytes) -> None:
        with self._open_for_write(path) as file:
            file.write(digest([content]).encode() + content)


def _checked(path: str) -> bytes:
    """Return the content of a file of `_CheckedFiles`; raise ValueError where it is damaged."""
    data = Path(path).read_bytes()
    content = data[_DIGITS:]
    if data[:_DIGITS] != digest([content]).encode():
        raise ValueError(f"{path}: is damaged")
    return content


class _Announcer(event.Listener):
    """Print one line to stderr when the first kernel is compiled; nothing where all are read from disk."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = False

    def on_start(self, event: event.Event) -> None:
        if not event.data["dispatcher"].py_func.__module__.startswith("detector."):
            return
        with self._lock:
            if not self._done:
                print("compiling the fast parts once, this takes some seconds ...", file=sys.stderr, flush=True)
            self._done = True

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Announcer())
