"""The numba settings that all kernels share, and the word to the user when they are compiled."""

import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit
from numba.core import event
from numpy.typing import NDArray

Array = NDArray[Any]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile `function` on first use, without the GIL, and keep the machine code on disk.

    numba keeps the code next to the source, or in the user's cache directory where the source is read-only, or
    in NUMBA_CACHE_DIR. Where none of them can be written, the code is compiled again in every process.
    """
    return _compiled(function)


def reordering_kernel(function: Kernel) -> Kernel:
    """A `kernel` that may add up floating-point numbers in any order, which is faster."""
    return _compiled(function, fastmath={"reassoc"})


def fusing_kernel(function: Kernel) -> Kernel:
    """A `kernel` that may round a product and its sum once, together, which is faster and more exact."""
    return _compiled(function, fastmath={"contract"})


def _compiled(function: Kernel, **settings: Any) -> Kernel:
    try:
        return njit(cache=True, nogil=True, **settings)(function)
    except RuntimeError:
        return njit(nogil=True, **settings)(function)


class _Announcer(event.Listener):
    """Writes one line to stderr when the first kernel has to be compiled, and none when all are read from disk."""

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
