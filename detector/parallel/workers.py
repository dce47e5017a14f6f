"""The loop of engines whose workers may die: tasks to workers, results in order, and restarts."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from detector.parallel.map_images import Factory
from detector.parallel.task_queue import ATTEMPTS, Task, TaskQueue

AHEAD = 2
"""Calls of a worker at a time, so that it need not wait for the next one."""
_BATCH_SECONDS = 0.1
"""Batches grow, up to `Worker.max_batch`, while they take less."""
_PATIENCE = 30.0
"""Seconds after which a warning says that no worker is ready."""
_log = logging.getLogger(__name__)


class _Call(NamedTuple):
    """Tasks in progress since ``start``; none while the worker makes its work."""

    future: Future[Any]
    tasks: Sequence[Task]
    start: float


@dataclass
class Worker(ABC):
    """A process that works on tasks in order, one after the other, and is started again when it has died.

    factory: makes its work. deaths: the error of a call whose process has died.
    owner: the index of the owner whose tasks it takes (see `TaskQueue`).
    calls: those in progress, in order. starts: how often it was started since it was last ready.
    max_batch: maximum tasks per call. waits: it may have to wait for a processor, and gets no task before it is ready.
    """

    max_batch: ClassVar[int] = 1
    waits: ClassVar[bool] = False

    factory: Factory
    deaths: type[Exception]
    owner: int = 0
    calls: deque[_Call] = field(default_factory=deque)
    starts: int = 0
    batch: int = 1
    is_ready: bool = False

    @abstractmethod
    def start(self) -> Future[Any]:
        """Start the process, and have it make its work."""

    @abstractmethod
    def send(self, items: Sequence[Any]) -> Future[list[Any]]:
        """Send items to the process, for their results."""

    @abstractmethod
    def end(self) -> str:
        """End the process, whatever it does, and return how it ended, if known."""

    def result(self, future: Future[Any]) -> Any:
        """Return the result of a call that is done, or raise its error."""
        return future.result()

    def assign(self, tasks: Sequence[Task]) -> None:
        """Send tasks to the process; start it first where it is not running. Without tasks, only start it."""
        if not self.calls and not self.is_ready:
            self.starts += 1
            self.calls.append(_Call(self.start(), (), time.monotonic()))
        if tasks:
            future = self.send([task.item for task in tasks])
            self.calls.append(_Call(future, tasks, time.monotonic()))

    def receive(self, queue: TaskQueue) -> None:
        """Take the results that are there, or the end of the process."""
        while self.calls and self.calls[0].future.done():
            call = self.calls[0]
            try:
                result = self.result(call.future)
            except self.deaths as error:
                self._retry(queue, error)
                return
            self.calls.popleft()
            if not self.is_ready:
                self.is_ready, self.starts = True, 0
                continue
            for task, each in zip(call.tasks, result, strict=True):
                queue.finish(task, each)
            if time.monotonic() - call.start < _BATCH_SECONDS:
                self.batch = min(2 * self.batch, self.max_batch)

    def _retry(self, queue: TaskQueue, error: Exception) -> None:
        reason = self.end() or type(error).__name__
        if self.starts == ATTEMPTS:
            raise ChildProcessError(f"{ATTEMPTS} workers ended before they were ready ({reason})")
        first = self.calls[0].tasks
        queue.retry([task for call in self.calls for task in call.tasks], first[0] if len(first) == 1 else None, reason)
        self.calls.clear()
        self.is_ready, self.batch = False, 1


def run_workers(workers: Sequence[Worker], queue: TaskQueue) -> Generator[tuple[Any, Any], None, None]:
    """Yield the items and results of a queue, in order; all workers end with the loop."""
    try:
        while True:
            _assign_tasks(workers, queue)
            yield from queue.in_order()
            if queue.is_done:
                return
            # none are busy where the window was full of results, which are taken now
            if busy := [worker for worker in workers if worker.calls]:
                first = [worker.calls[0].future for worker in busy]
                while not wait(first, _PATIENCE, FIRST_COMPLETED).done:
                    if not any(worker.is_ready for worker in workers):
                        _log.warning("no worker is ready yet: each needs a processor that nobody else has taken")
                for worker in busy:
                    worker.receive(queue)
    finally:
        for worker in workers:
            worker.end()


def _assign_tasks(workers: Sequence[Worker], queue: TaskQueue) -> None:
    for load in range(AHEAD):
        for worker in workers:
            if worker.waits and not worker.is_ready:
                worker.assign(())
                continue
            in_progress = [call.tasks for call in worker.calls if call.tasks]
            # a retried task has a worker for itself: its death would lose the results of earlier calls
            if len(in_progress) != load or any(task.retried for tasks in in_progress for task in tasks):
                continue
            if tasks := queue.take(worker.batch, worker.owner, retry=load == 0):
                worker.assign(tasks)
