"""How long work tells that it goes on: a callable around whatever it loops over, and an estimate of what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

Progress = Callable[[Iterable[Any], str], Iterable[Any]]
"""Takes items and a title, and gives the items back one by one."""


def without_progress(items: Iterable[Any], title: str) -> Iterable[Any]:
    """Tell nothing."""
    return items


_TRUST = 5.0  # seconds of work as planned that measurements must outweigh


@dataclass(frozen=True)
class Stage:
    """A loop that is ahead: its title, how many items it goes over, and about how many seconds an item takes."""

    title: str
    n_items: int
    seconds: float


@dataclass
class _Loop:
    """The loop that runs. n_items: None where nobody knows. seconds: an item, as planned; None where it was not.

    first: seconds of its first item, which often takes longer: kernels are compiled, files are opened. spent: those of
    the others.
    """

    title: str
    n_items: int | None
    seconds: float | None
    last: float
    done: int = 0
    first: float = 0.0
    spent: float = 0.0


class Estimate:
    """What is done, and how long the rest takes, judged by how long its parts took so far.

    plan: the loops ahead, in their order; those that are skipped count no longer, others may come between. Their
    seconds were measured once, somewhere: they only say how much longer one loop takes than another. clock: seconds.
    """

    def __init__(self, plan: Sequence[Stage] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._ahead = list(plan)
        self._clock = clock
        self._loop: _Loop | None = None
        # seconds of the plan for what is done of it, without first items, and seconds that this took
        self._planned = self._spent = _TRUST

    def begin(self, title: str, n_items: int | None) -> None:
        """A loop begins."""
        seconds = None
        titles = [stage.title for stage in self._ahead]
        if title in titles:
            seconds = self._ahead[titles.index(title)].seconds
            del self._ahead[: titles.index(title) + 1]
        self._loop = _Loop(title, n_items, seconds, self._clock())

    def advance(self) -> None:
        """An item of the loop is done."""
        loop, now = self._loop, self._clock()
        assert loop is not None
        took, loop.last = now - loop.last, now
        loop.done += 1
        if loop.done == 1:
            loop.first = took
            return
        loop.spent += took
        if loop.seconds is not None:
            self._planned += loop.seconds
            self._spent += took

    def end(self) -> tuple[int, float]:
        """The loop has ended: how many items it did, in how many seconds."""
        assert self._loop is not None
        loop, self._loop = self._loop, None
        return loop.done, loop.first + loop.spent

    @property
    def runs(self) -> bool:
        """Whether a loop runs."""
        return self._loop is not None

    def left(self) -> float | None:
        """About how many seconds the loop still takes; None where nothing tells it."""
        loop = self._loop
        if loop is None or loop.n_items is None:
            return None
        under_way = self._clock() - loop.last
        known = [] if loop.seconds is None else [loop.seconds * self._pace]
        if loop.done > 1:
            # the plan counts like one more item
            seconds = (loop.spent + sum(known)) / (loop.done - 1 + len(known))
        elif loop.done:
            seconds = (loop.first + sum(known)) / (1 + len(known))
        elif known:
            # the first item takes as long as it has taken, at least
            seconds = (max(under_way, known[0]) + known[0]) / 2
        else:
            return None
        return max(seconds * (loop.n_items - loop.done) - min(under_way, seconds), 0.0)

    def left_in_all(self) -> float | None:
        """About how many seconds this loop and the planned ones still take; None where there are no others."""
        left = self.left()
        if left is None or not self._ahead:
            return None
        return left + self._pace * sum(stage.n_items * stage.seconds for stage in self._ahead)

    @property
    def _pace(self) -> float:
        return self._spent / self._planned

    def __str__(self) -> str:
        """Title, share done and time left in a line."""
        loop = self._loop
        if loop is None:
            return ""
        if not loop.n_items:
            return f"{loop.title}: {loop.done} done"
        line = f"{loop.title}: {100 * loop.done // loop.n_items} % ({loop.done} of {loop.n_items})"
        if (left := self.left()) is not None:
            line += f", {about(left)} left"
        if (in_all := self.left_in_all()) is not None:
            line += f"; all stages: {about(in_all)} left"
        return line


def about(seconds: float) -> str:
    """A duration in words, no finer than an estimate is: "about 40 s", "about 8 min", "about 1.5 h"."""
    if seconds < 90:
        return f"about {max(10, 10 * round(seconds / 10))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


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
