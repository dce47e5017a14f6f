"""Work on items in processes of this machine, which may die; see `detector.parallel.map_images`."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Thread, current_thread, main_thread
from typing import Any

from detector.parallel.map_images import Factory, Item, Work, attempt
from detector.parallel.task_queue import TaskQueue
from detector.parallel.workers import Worker, run_workers
from detector.runtime.environment import SAFE_PATH, environment_variables
from detector.runtime.threads import one_thread_environment

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
        workers = [_ProcessWorker(factory, BrokenProcessPool) for _ in range(self.workers)]
        return run_workers(workers, TaskQueue(items, self.workers * _WINDOW))


@dataclass
class _ProcessWorker(Worker):
    """A pool of one process, so that it is known which task the process died of."""

    _context: _Context | None = None
    _pool: ProcessPoolExecutor | None = None

    def start(self) -> Future[Any]:
        with environment_variables({**one_thread_environment(), **SAFE_PATH}), _blocked_interrupts():
            self._context = _Context()
            self._pool = ProcessPoolExecutor(1, self._context, _begin)  # may start a process, too: a tracker of locks
            return self._pool.submit(_make_work, self.factory)

    def send(self, items: Sequence[Any]) -> Future[list[Any]]:
        assert self._pool is not None
        try:
            return self._pool.submit(_do, items)
        except BrokenProcessPool as error:  # it died without a task
            future: Future[list[Any]] = Future()
            future.set_exception(error)
            return future

    def end(self) -> str:
        if self._pool is None or self._context is None:
            return ""
        process = self._context.process
        if process is not None and process.exitcode is None:
            process.kill()
        self._pool.shutdown(cancel_futures=True)
        self._pool = None
        code = (process.exitcode if process is not None else None) or 0
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


class _Context(SpawnContext):
    """The context of a pool of one process, which keeps that process: pools do not say how a process ended."""

    process: SpawnProcess | None = None

    def Process(self, *args: Any, **settings: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        self.process = SpawnProcess(*args, **settings)
        return self.process


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


def _do(items: Sequence[Any]) -> list[Any]:
    assert _work is not None
    return [attempt(_work, item) for item in items]
