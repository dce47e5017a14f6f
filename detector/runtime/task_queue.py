"""Items that are handed to workers and come back in their order, whatever becomes of the workers."""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from detector.runtime.map_images import Failure

ATTEMPTS = 3
"""How often a worker may die of an item, or before it is ready."""


@dataclass
class Task:
    """An item by its place in the order; owner: who is to do it; deaths: how many workers died of it.

    again: it is done again, because a worker died that had it.
    """

    index: int
    item: Any
    owner: int = 0
    deaths: int = 0
    again: bool = False


class TaskQueue:
    """Items to be done, in their order, and results that wait for those of earlier items; at most ``window`` of both.

    Tasks that are to be done again come first. With several ``owners``, all items of an image go to the same one.
    """

    def __init__(self, items: Iterable[Any], window: int, owners: int = 1) -> None:
        self._source = enumerate(items)
        self._window = window
        self._waiting: list[deque[Task]] = [deque() for _ in range(owners)]
        self._again: list[deque[Task]] = [deque() for _ in range(owners)]
        self._done: dict[int, tuple[Any, Any]] = {}
        self._next = self._taken = 0
        self._ended = False

    def take(self, most: int = 1, owner: int = 0, again: bool = True) -> list[Task]:
        """The next tasks of an owner, if any.

        One that is done ``again``, if it may be, comes alone: if a worker dies of it, that is known.
        """
        if again and self._again[owner]:
            return [self._again[owner].popleft()]
        waiting = self._waiting[owner]
        while len(waiting) < most and not self._ended and self._taken - self._next < self._window:
            self._draw()
        return [waiting.popleft() for _ in range(min(most, len(waiting)))]

    def _draw(self) -> None:
        """Have the next item of all wait for its owner."""
        index, item = next(self._source, (-1, None))
        if index < 0:
            self._ended = True
            return
        self._taken += 1
        owner = owner_of(item, len(self._waiting))
        self._waiting[owner].append(Task(index, item, owner))

    @property
    def is_done(self) -> bool:
        """Whether all items are done and given back."""
        return self._ended and self._next == self._taken

    def finish(self, task: Task, result: Any) -> None:
        """A task is done."""
        self._done[task.index] = task.item, result

    def bury(self, tasks: Iterable[Task], culprit: Task | None, how: str) -> None:
        """The worker that had these ``tasks`` has died, of the ``culprit``, where it is known: they are done again.

        The culprit is a `Failure` where it was the last death that it is allowed.
        """
        for task in tasks:
            task.deaths, task.again = task.deaths + (task is culprit), True
            if task.deaths < ATTEMPTS:
                self._again[task.owner].append(task)
            else:
                name = getattr(task.item, "path", task.item)
                self.finish(task, Failure(f"{name}: {ATTEMPTS} workers died of it ({how})"))

    def in_order(self) -> Iterator[tuple[Any, Any]]:
        """Items and results that are next in the order."""
        while self._next in self._done:
            self._next += 1
            yield self._done.pop(self._next - 1)


def owner_of(item: Any, owners: int) -> int:
    """Which of so many owners has an item, by the path of its image or else its text: always the same one."""
    return zlib.crc32(os.fsencode(str(getattr(item, "path", item)))) % owners
