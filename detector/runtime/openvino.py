"""OpenVINO graphs, compiled for the cores that this process may use."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, Literal
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from detector.runtime.optional import optional
from detector.runtime.threads import thread_count

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
_TELEMETRY = "openvino_telemetry"


def import_openvino(module: str = "openvino") -> Any:
    """Import OpenVINO, or a ``module`` of it, without its telemetry. Raises MissingPackageError where it is missing.

    On import, OpenVINO writes a client id into the home folder and sends it to a host. It does without where the
    package for that cannot be imported; the entry None in `sys.modules` has that effect.
    """
    if "openvino" in sys.modules:
        return optional(module)
    before = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return optional(module)
    finally:
        sys.modules.pop(_TELEMETRY, None)
        if before is not None:
            sys.modules[_TELEMETRY] = before


class CompiledGraph:
    """Map an array to the output of a graph of one input; several threads may call it at a time.

    A forked process compiles the graph again: it has none of the threads that compute in its parent.

    graph: an ``openvino.Model``. precision: float32 or bfloat16, of the computation.
    side_by_side: compute each input on one thread, and several inputs at a time, instead of one input on all threads.
        Callers that are limited to one thread get this, too (see `threads.on_one_thread_each`).
    """

    def __init__(self, graph: Any, precision: str, side_by_side: bool = False) -> None:
        self._graph, self._precision, self._side_by_side = graph, precision, side_by_side
        self._threads = thread_count()
        self._lock = Lock()
        self._requests: dict[bool, _Requests] = {}
        self._get(side_by_side)  # compile now, not for the first image
        _graphs.add(self)

    def __call__(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        return self._get(self._side_by_side or thread_count() < self._threads)(values)

    def _get(self, side_by_side: bool) -> _Requests:
        with self._lock:
            if side_by_side not in self._requests:
                settings = {
                    "INFERENCE_PRECISION_HINT": _PRECISIONS[self._precision],
                    "INFERENCE_NUM_THREADS": self._threads,
                    "NUM_STREAMS": self._threads if side_by_side else 1,
                    # pinned threads would wait while another process uses their core
                    "ENABLE_CPU_PINNING": False,
                    # layers compiled for one image size each; the default of 5,000 takes 1 GB
                    "CPU_RUNTIME_CACHE_CAPACITY": 200,
                }
                with _memory_errors():
                    self._requests[side_by_side] = _Requests(_core().compile_model(self._graph, "CPU", settings))
            return self._requests[side_by_side]

    def forget_compiled(self) -> None:
        """Compile again on the next call, in a forked process."""
        _never_release(self._requests)
        self._lock, self._requests = Lock(), {}


_graphs: WeakSet[CompiledGraph] = WeakSet()


def _after_fork() -> None:
    for graph in [*_graphs]:
        graph.forget_compiled()
    if _core.cache_info().currsize:
        _never_release(_core())


def _never_release(value: Any) -> None:
    """Keep an object alive until the process has ended: OpenVINO's destructors wait for threads of the parent."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Requests:
    """A compiled graph, and a pool of inference requests, one for each concurrent call."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._idle: SimpleQueue[Any] = SimpleQueue()

    def __call__(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        try:
            request.infer([values], share_inputs=True)
            # a copy: the next call overwrites the output
            output: NDArray[np.float32] = request.get_output_tensor().data.copy()
        finally:
            self._idle.put(request)
        return output


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Raise MemoryError for OpenVINO's error of that kind."""
    try:
        yield
    except RuntimeError as error:
        if "bad_alloc" in str(error):
            raise MemoryError from error
        raise


@cache
def _core() -> Any:
    return import_openvino().Core()


Runtime = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "float32", "bfloat16"]
"""Precision of a network's computation; auto is bfloat16 where it is fast, else float32."""


@cache
def has_bfloat16(description: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether bfloat16 is fast here (AVX-512 BF16, AMX), by Linux's /proc/cpuinfo; False elsewhere."""
    try:
        words = set(description.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return not words.isdisjoint(("avx512_bf16", "amx_bf16"))
