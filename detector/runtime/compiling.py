"""Decorators of numba kernels, with one set of options, checked cache files, and one line while they compile."""

import pickle
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from numba import njit
from numba.core import event
from numba.core.caching import IndexDataCacheFile
from numpy.typing import NDArray

from detector.runtime.files import digest

Array = NDArray[Any]
_DIGITS = 64
"""Length of the checksum at the beginning of a file."""
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile ``function`` on first use, without the GIL, and cache the machine code on disk.

    numba caches it next to the source, in the user's cache directory where the source is read-only, or in
    NUMBA_CACHE_DIR. Where none can be written, every process compiles again.
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
        dispatcher = njit(cache=True, nogil=True, **settings)(function)
    except RuntimeError:
        return njit(nogil=True, **settings)(function)
    cache = dispatcher._cache
    cache._cache_file = _CheckedFiles(
        cache.cache_path, f"{cache._impl.filename_base}-checked", cache._impl.locator.get_source_stamp()
    )
    return dispatcher


class _CheckedFiles(IndexDataCacheFile):
    """numba's cache files with checksums: a damaged one is reported and replaced, never run."""

    def load(self, key: Any) -> Any:
        try:
            return super().load(key)
        except Exception as error:  # unpickling damaged data may raise nearly anything
            reason = error.strerror if isinstance(error, OSError) else "damaged"
            print(f"{self._index_path}: {str(reason).lower()}; compiling it again", file=sys.stderr, flush=True)
            with suppress(OSError):
                self.flush()
            return None

    def save(self, key: Any, data: Any) -> None:
        # such as a full disk: every process compiles again
        with suppress(OSError):
            super().save(key, data)

    def _save_index(self, overloads: Any) -> None:
        self._write(self._index_path, self._dump((self._version, self._source_stamp, overloads)))

    def _load_index(self) -> Any:
        if not Path(self._index_path).exists():
            return {}
        version, stamp, overloads = pickle.loads(_checked(self._index_path))
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), self._dump(data))

    def _load_data(self, name: str) -> Any:
        return pickle.loads(_checked(self._data_path(name)))

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
