"""The numba settings that all kernels of this stage share."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from numba import njit
from numba.core import event
from numpy.typing import NDArray

Array = NDArray[Any]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile `function` on first use, without the GIL, and keep the machine code on disk.

    numba keeps the code beside the source, or in the user's cache directory where the source is read-only, or
    in NUMBA_CACHE_DIR. Where none of them can be written, the code is compiled anew in every process.
    """
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


class _Announcer(event.Listener):
    """Writes one line to stderr when the first kernel of this stage has to be compiled."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = False

    def on_start(self, event: event.Event) -> None:
        function = event.data["dispatcher"].py_func
        if not function.__module__.startswith(__package__):
            return
        with self._lock:
            if not self._done:
                print(
                    "selective search: compiling once, this takes some seconds ...",
                    file=sys.stderr,
                    flush=True,
                )
            self._done = True

    def on_end(self, event: event.Event) -> None:
        pass


_announcer = _Announcer()


@contextmanager
def announced_compilation() -> Iterator[None]:
    """Tell the user on stderr, once a process, that a kernel is being compiled in the block."""
    with event.install_listener("numba:compile", _announcer):
        yield
