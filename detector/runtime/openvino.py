"""Graphs of OpenVINO, compiled for the cores that this process may use."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detector.runtime.optional import optional
from detector.runtime.threads import thread_count

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class CompiledGraph:
    """Callable from an array to the output of a graph of one input; several threads may call it at a time.

    ``graph`` is an ``openvino.Model``, ``precision`` float32 or bfloat16: that of the computation. An input takes all
    threads; or one, so that as many inputs are computed at a time, with ``side_by_side`` and for callers that are on
    one thread each (see `threads.on_one_thread_each`).
    """

    def __init__(self, graph: Any, precision: str, side_by_side: bool = False) -> None:
        self._graph, self._precision, self._side_by_side = graph, precision, side_by_side
        self._threads = thread_count()
        self._lock = Lock()
        self._requests: dict[bool, _Requests] = {}
        self._get(side_by_side)  # now, and not in the first image

    def __call__(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        return self._get(self._side_by_side or thread_count() < self._threads)(values)

    def _get(self, side_by_side: bool) -> _Requests:
        with self._lock:
            if side_by_side not in self._requests:
                settings = {
                    "INFERENCE_PRECISION_HINT": _PRECISIONS[self._precision],
                    "INFERENCE_NUM_THREADS": self._threads,
                    "NUM_STREAMS": self._threads if side_by_side else 1,
                    # threads bound to a core wait while another process has it
                    "ENABLE_CPU_PINNING": False,
                    # of layers made for one size of image each; by default 5,000, which come to 1 GB
                    "CPU_RUNTIME_CACHE_CAPACITY": 200,
                }
                self._requests[side_by_side] = _Requests(_core().compile_model(self._graph, "CPU", settings))
            return self._requests[side_by_side]


class _Requests:
    """A compiled graph, and the memory of as many calls as there were at a time."""

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
            # the next call writes where this one's output is
            output: NDArray[np.float32] = request.get_output_tensor().data.copy()
        finally:
            self._idle.put(request)
        return output


@cache
def _core() -> Any:
    return optional("openvino").Core()


Runtime = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "float32", "bfloat16"]
"""Of a network's computation; auto is what is fast here."""


@cache
def has_bfloat16(description: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether products of bfloat16 are fast here (AVX-512 BF16, AMX), as Linux tells; elsewhere, no."""
    try:
        words = set(description.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return not words.isdisjoint(("avx512_bf16", "amx_bf16"))
