"""Where the time of a detection goes: stages take their own time whenever somebody asked for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_times: ContextVar[dict[str, float] | None] = ContextVar("times", default=None)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Add the wall time of the block to the stage of that name, if `stage_times` is around it."""
    times = _times.get()
    start = time.perf_counter()
    yield
    if times is not None:
        times[name] = times.get(name, 0.0) + time.perf_counter() - start


@contextmanager
def stage_times() -> Iterator[dict[str, float]]:
    """Collect seconds by stage, in order of their first start, of what runs inside the block on this thread."""
    times: dict[str, float] = {}
    token = _times.set(times)
    try:
        yield times
    finally:
        _times.reset(token)
