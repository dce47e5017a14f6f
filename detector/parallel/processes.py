"""Work on items in processes of this machine, which may die; see `detector.parallel.map_images`."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Thread, current_thread, main_thread
from typing import Any

from detector.parallel.map_images import Factory, Item, Work, attempt
from detector.parallel.task_queue import ATTEMPTS, Task, TaskQueue
from detector.runtime.threads import one_thread_environment

_AHEAD = 2
"""Items in a worker at a time, so that it need not wait for the next one."""
_WINDOW = 8
"""Items per worker that are in progress, or done while an earlier one is not."""


@dataclass(frozen=True)
class Processes:
    """An `Engine` of ``workers`` processes with one thread each.

    A process that dies is started again, and its items are done again. The result of an item that three processes died
    of is a `Failure`.
    """

    workers: int

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, but got {self.workers}")

    def __call__(self, factory: Factory, items: Iterable[Item]) -> Generator[tuple[Item, Any], None, None]:
        workers = [_Worker(factory) for _ in range(self.workers)]
        queue = TaskQueue(items, self.workers * _WINDOW)
        try:
            while True:
                _assign_tasks(workers, queue)
                yield from queue.in_order()
                if queue.is_done:
                    return
                # none are busy where the window was full of results, which are taken now
                if busy := [worker for worker in workers if worker.calls]:
                    wait([worker.calls[0].future for worker in busy], return_when=FIRST_COMPLETED)
                    for worker in busy:
                        worker.receive(queue)
        finally:
            for worker in workers:
                worker.end()


def _assign_tasks(workers: list[_Worker], queue: TaskQueue) -> None:
    for load in range(_AHEAD):
        for worker in workers:
            if len(worker.calls) == load:
                for task in queue.take():
                    worker.assign(task)


@dataclass
class _Call:
    """A future of a worker and its task; None for the call that makes the work."""

    future: Future[Any]
    task: Task | None


@dataclass
class _Worker:
    """A pool of one process, started with its first task. With one process, the item that it died of is known.

    calls: those in progress, in their order. starts: how often it was started since it was last ready.
    """

    factory: Factory
    calls: deque[_Call] = field(default_factory=deque)
    starts: int = 0
    _context: _Context | None = None
    _pool: ProcessPoolExecutor | None = None

    def assign(self, task: Task) -> None:
        """Send a task to the process."""
        if self._pool is None:
            self._context = _Context()
            self._pool = ProcessPoolExecutor(1, self._context, _begin)
            self.starts += 1
            with _environment(one_thread_environment()), _blocked_interrupts():
                self.calls.append(_Call(self._pool.submit(_make_work, self.factory), None))
        try:
            future = self._pool.submit(_do, task.item)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        self.calls.append(_Call(future, task))

    def receive(self, queue: TaskQueue) -> None:
        """Take the results that are there, or the end of the process."""
        while self.calls and self.calls[0].future.done():
            try:
                result = self.calls[0].future.result()
            except BrokenProcessPool:
                self._retry(queue)
                return
            task = self.calls.popleft().task
            if task is None:
                self.starts = 0
            else:
                queue.finish(task, result)

    def end(self) -> str:
        """End the process, whatever it does, and return how it ended."""
        if self._pool is None or self._context is None:
            return ""
        process = self._context.process
        if process is not None and process.exitcode is None:
            process.kill()
        self._pool.shutdown(cancel_futures=True)
        self._pool = None
        code = (process.exitcode if process is not None else None) or 0
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def _retry(self, queue: TaskQueue) -> None:
        reason = self.end()
        if self.starts == ATTEMPTS:
            raise ChildProcessError(f"{ATTEMPTS} workers ended before they were ready ({reason})")
        tasks = [call.task for call in self.calls if call.task is not None]
        self.calls.clear()
        # a process does one task after the other
        queue.retry(tasks, None if self.starts else tasks[0], reason)


class _Context(SpawnContext):
    """The context of a pool of one process, which keeps that process: pools do not say how a process ended."""

    process: SpawnProcess | None = None

    def Process(self, *args: Any, **settings: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        self.process = SpawnProcess(*args, **settings)
        return self.process


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started inside: libraries read them before any code of ours runs."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _blocked_interrupts() -> Iterator[None]:
    """Block Ctrl-C in the processes that are started inside: the process that started them ends them."""
    if not hasattr(signal, "pthread_sigmask") or current_thread() is not main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- in the process

_work: Work | None = None


def _begin() -> None:
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process with the one that started it, even where that was killed."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)


def _make_work(factory: Factory) -> None:
    global _work
    _work = factory()


def _do(item: Any) -> Any:
    assert _work is not None
    return attempt(_work, item)
