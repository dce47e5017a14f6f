"""Items in order for workers that may die: a bounded window, retries, and results in the order of the items."""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from detector.parallel.map_images import Failure

ATTEMPTS = 3
"""Number of workers that may die on one item, or before they are ready."""


@dataclass
class Task:
    """An item, its index in the order, and the owner that works on it.

    deaths: how many workers died on it. retried: whether it is done again because its worker died.
    """

    index: int
    item: Any
    owner: int = 0
    deaths: int = 0
    retried: bool = False


class TaskQueue:
    """A queue of items and of results that wait for those of earlier items; at most ``window`` of both together.

    Retried tasks come first. With several ``owners``, all items of an image go to the same one.
    """

    def __init__(self, items: Iterable[Any], window: int, owners: int = 1) -> None:
        self._source = enumerate(items)
        self._window = window
        self._waiting: list[deque[Task]] = [deque() for _ in range(owners)]
        self._retries: list[deque[Task]] = [deque() for _ in range(owners)]
        self._done: dict[int, tuple[Any, Any]] = {}
        self._next = self._taken = 0
        self._ended = False

    def take(self, max_tasks: int = 1, owner: int = 0, retry: bool = True) -> list[Task]:
        """Return the next tasks of an owner, if any.

        A task to ``retry`` comes alone, so that a worker that dies of it shows it; pass False to leave them waiting.
        """
        if retry and self._retries[owner]:
            return [self._retries[owner].popleft()]
        waiting = self._waiting[owner]
        while len(waiting) < max_tasks and not self._ended and self._taken - self._next < self._window:
            self._read_item()
        return [waiting.popleft() for _ in range(min(max_tasks, len(waiting)))]

    def _read_item(self) -> None:
        index, item = next(self._source, (-1, None))
        if index < 0:
            self._ended = True
            return
        self._taken += 1
        owner = owner_of(item, len(self._waiting))
        self._waiting[owner].append(Task(index, item, owner))

    @property
    def is_done(self) -> bool:
        """True where all items are done and their results were taken."""
        return self._ended and self._next == self._taken

    def finish(self, task: Task, result: Any) -> None:
        """Store the result of a task."""
        self._done[task.index] = task.item, result

    def retry(self, tasks: Iterable[Task], culprit: Task | None, reason: str) -> None:
        """Queue the ``tasks`` of a dead worker again; the ``culprit``, where known, is the one that it died of.

        After `ATTEMPTS` deaths, the result of the culprit is a `Failure`.
        """
        for task in tasks:
            task.deaths, task.retried = task.deaths + (task is culprit), True
            if task.deaths < ATTEMPTS:
                self._retries[task.owner].append(task)
            else:
                name = getattr(task.item, "path", task.item)
                self.finish(task, Failure(f"{name}: {ATTEMPTS} workers died of it ({reason})"))

    def in_order(self) -> Iterator[tuple[Any, Any]]:
        """Yield the items and results that are next in the order."""
        while self._next in self._done:
            self._next += 1
            yield self._done.pop(self._next - 1)


def owner_of(item: Any, n_owners: int) -> int:
    """Return the index of the owner of an item, always the same one, by the path of its image or else its text."""
    return zlib.crc32(os.fsencode(str(getattr(item, "path", item)))) % n_owners
