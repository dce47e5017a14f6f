"""Items that are handed to workers and come back in their order, whatever becomes of the workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from detector.runtime.map_images import Failure

ATTEMPTS = 3
"""How often a worker may die of an item, or before it is ready."""


@dataclass
class Task:
    """An item by its place in the order; deaths: how many workers died of it."""

    index: int
    item: Any
    deaths: int = 0


class TaskQueue:
    """Items to be done, in their order, and results that wait for those of earlier items; at most ``window`` of both.

    Tasks that are to be done again come first.
    """

    def __init__(self, items: Iterable[Any], window: int) -> None:
        self._source = enumerate(items)
        self._window = window
        self._again: deque[Task] = deque()
        self._done: dict[int, tuple[Any, Any]] = {}
        self._next = self._taken = 0
        self._ended = False

    def take(self, most: int = 1) -> list[Task]:
        """The next tasks, if any. One that is done again comes alone: if a worker dies of it, that is known."""
        if self._again:
            return [self._again.popleft()]
        most = min(most, self._window - (self._taken - self._next))
        tasks = [Task(index, item) for index, item in islice(self._source, max(most, 0))]
        self._taken += len(tasks)
        self._ended = self._ended or len(tasks) < most
        return tasks

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
            task.deaths += task is culprit
            if task.deaths < ATTEMPTS:
                self._again.append(task)
            else:
                name = getattr(task.item, "path", task.item)
                self.finish(task, Failure(f"{name}: {ATTEMPTS} workers died of it ({how})"))

    def in_order(self) -> Iterator[tuple[Any, Any]]:
        """Items and results that are next in the order."""
        while self._next in self._done:
            self._next += 1
            yield self._done.pop(self._next - 1)
