"""Progress of loops, and wall time of the steps inside of them."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

from tqdm import tqdm

Progress = Callable[[Iterable[Any], str], Iterable[Any]]
"""Yields the items that it is called with; the second argument is a title to show."""

FIRST_SECONDS = 10.0
SECONDS = 30.0
_PRIOR = 5.0
"""Seconds of planned work that measurements must outweigh."""
_log = logging.getLogger(__name__)


def no_progress(items: Iterable[Any], title: str) -> Iterable[Any]:
    """Return ``items`` unchanged and show nothing."""
    return items


class Task(NamedTuple):
    """A planned loop: its title, its number of items, and the estimated seconds of an item."""

    title: str
    n_items: int
    seconds: float


@dataclass
class _Loop:
    """The running loop; ``planned`` is the estimated seconds of an item, ``first`` those that the first item took."""

    title: str
    n_items: int | None
    planned: float | None
    start: float
    done: int = 0
    first: float = 0.0


class ProgressBars:
    """Show the progress of loops that run one after another: a bar each, or log lines.

    A line is logged after 10 seconds and then every 30. As a context manager, it is logged on time even while a single
    item takes longer. ``plan`` holds the loops ahead, in order, for the time left in all: skipped ones are dropped,
    unplanned ones may come between. Only the proportions of their seconds count.
    """

    def __init__(self, plan: Sequence[Task] = (), bars: bool = False) -> None:
        self._ahead, self._bars = list(plan), bars
        self._loop: _Loop | None = None
        self._planned = self._spent = _PRIOR  # seconds of planned work that is done
        self._due = monotonic() + FIRST_SECONDS
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __call__(self, items: Iterable[Any], title: str) -> Generator[Any, None, None]:
        """Yield ``items`` and show the progress under a title."""
        n_items = len(items) if isinstance(items, Sized) else None
        with self._lock:
            loop = self._loop = _Loop(title, n_items, self._start(title), monotonic())
        bar = tqdm(items, desc=title, file=sys.stderr, disable=not self._bars or n_items == 0)
        try:
            for item in bar:
                yield item
                with self._lock:
                    loop.done += 1
                    if loop.done == 1:
                        loop.first = monotonic() - loop.start
                bar.set_postfix_str(self._time_left().partition("; ")[2], refresh=False)
                self._log_when_due()
        finally:
            with self._lock:
                self._loop = None
            seconds = monotonic() - loop.start
            if loop.planned is not None and loop.done > 1:
                self._planned += loop.planned * (loop.done - 1)
                self._spent += seconds - loop.first
            if n_items != 0:
                _log.debug("%s: %d in %.1f s", title, loop.done, seconds)

    def __enter__(self) -> ProgressBars:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _start(self, title: str) -> float | None:
        """Drop a planned loop, and those before it, from the plan; return its estimated seconds of an item."""
        titles = [task.title for task in self._ahead]
        if title not in titles:
            return None
        row = titles.index(title)
        seconds = self._ahead[row].seconds
        del self._ahead[: row + 1]
        return seconds

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            self._log_when_due()

    def _log_when_due(self) -> None:
        with self._lock:
            if self._bars or self._loop is None or monotonic() < self._due:
                return
            self._due = monotonic() + SECONDS
            loop = self._loop
            line = f"{loop.title}: {loop.done} done"
            if loop.n_items:
                share = 100 * loop.done // loop.n_items
                line = f"{loop.title}: {share} % ({loop.done} of {loop.n_items}){self._time_left()}"
        _log.info(line)

    def _time_left(self) -> str:
        """Return ", about 2 min left", with "; all tasks: about 5 min left" where others are planned."""
        loop, pace = self._loop, self._spent / self._planned
        if loop is None or loop.n_items is None:
            return ""
        if loop.done > 1:  # the first item often takes longer: kernels are compiled, files are opened
            seconds = (monotonic() - loop.start - loop.first) / (loop.done - 1)
        elif loop.planned is not None:
            seconds = loop.planned * pace
        elif loop.done:
            seconds = loop.first
        else:
            return ""
        left = seconds * (loop.n_items - loop.done)
        line = f", {duration(left)} left"
        if self._ahead:
            ahead = pace * sum(task.n_items * task.seconds for task in self._ahead)
            line += f"; all tasks: {duration(left + ahead)} left"
        return line


def duration(seconds: float) -> str:
    """Return a rounded duration: "about 40 s", "about 8 min", "about 1.5 h"."""
    if seconds < 90:
        return f"about {max(10, 10 * round(seconds / 10))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


_times: ContextVar[dict[str, float] | None] = ContextVar("times", default=None)


@contextmanager
def timer(name: str) -> Iterator[None]:
    """Add the wall time of the block under a name to the `timings` that enclose it, if any."""
    times = _times.get()
    start = time.perf_counter()
    yield
    if times is not None:
        times[name] = times.get(name, 0.0) + time.perf_counter() - start


@contextmanager
def timings() -> Iterator[dict[str, float]]:
    """Collect the seconds of each `timer` inside the block, on this thread, in order of their first start."""
    times: dict[str, float] = {}
    token = _times.set(times)
    try:
        yield times
    finally:
        _times.reset(token)
