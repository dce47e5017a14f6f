"""Work on items in processes of this machine, which may die; see `detector.parallel.map_images`."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
import zlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from threading import Thread, current_thread, main_thread
from typing import Any

from detector.parallel.map_images import EndRun, Factory, Failure, Item, attempt
from detector.runtime.threads import one_thread_environment

_AHEAD = 2
"""Items that a worker has got and not answered, so that it need not wait for the next one."""
_WINDOW = 8
"""Items a worker that are under way, or done while an earlier one is not."""
_END_SECONDS = 2.0


@dataclass(frozen=True)
class Processes:
    """So many ``workers``, processes of one thread each. One that dies is started again, and its items done again.

    An item of which three workers died is a `Failure`.
    """

    workers: int

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, but got {self.workers}")

    def __call__(self, factory: Factory, items: Iterable[Item]) -> Generator[tuple[Item, Any], None, None]:
        crew = [_Worker(factory) for _ in range(self.workers)]
        queue = TaskQueue(items, self.workers * _WINDOW)
        try:
            while True:
                _hand_out(crew, queue)
                yield from queue.in_order()
                if queue.is_done:
                    return
                # none where all was done that there was room for, and now there is more
                busy = [worker for worker in crew if worker.assigned]
                ready = wait([worker.connection for worker in busy]) if busy else []
                for worker in busy:
                    if worker.connection in ready:
                        worker.receive(queue)
        finally:
            for worker in crew:
                worker.close()
            for worker in crew:
                worker.end()


def _hand_out(crew: list[_Worker], queue: TaskQueue) -> None:
    for load in range(_AHEAD):
        for worker in crew:
            if len(worker.assigned) == load:
                for task in queue.take():
                    worker.assign(task)


@dataclass
class _Worker:
    """A process, started when there is work for it.

    assigned: what it has got and not answered, in that order. starts: how often it was started and was not ready.
    """

    factory: Factory
    assigned: deque[Task] = field(default_factory=deque)
    starts: int = 0
    _process: BaseProcess | None = None
    _connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        assert self._connection is not None
        return self._connection

    def assign(self, task: Task) -> None:
        if self._process is None:
            self._start()
        self.assigned.append(task)
        # where it has died, reading its connection tells it
        with suppress(OSError):
            self.connection.send(task.item)

    def receive(self, queue: TaskQueue) -> None:
        """Take in one message, or the end of the process."""
        try:
            kind, content = self.connection.recv()
        except (EOFError, OSError):
            self._bury(queue)
            return
        if kind == "done":
            queue.finish(self.assigned.popleft(), content)
        elif kind == "ready":
            self.starts = 0
        else:
            raise content

    def close(self) -> None:
        """Tell the process to end, whatever it does."""
        if self._connection is not None:
            self._connection.close()

    def end(self) -> str:
        """Wait until it has ended, and tell how."""
        if self._process is None:
            return ""
        self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        code = self._process.exitcode or 0
        self._process = None
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def _start(self) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.factory), daemon=True)
        with _environment(one_thread_environment()), _without_interrupts():
            self._process.start()
        theirs.close()
        self.starts += 1

    def _bury(self, queue: TaskQueue) -> None:
        self.close()
        how = self.end()
        if self.starts == ATTEMPTS:
            raise ChildProcessError(f"{ATTEMPTS} workers ended before they were ready ({how})")
        tasks, self.assigned = self.assigned, deque()
        # it does one after the other
        queue.bury(tasks, None if self.starts else tasks[0], how)


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """What processes that are started inside inherit: libraries read it before any code of ours runs."""
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
def _without_interrupts() -> Iterator[None]:
    """Processes that are started inside do not know Ctrl-C: it is for the one that started them, which ends them."""
    if not hasattr(signal, "pthread_sigmask") or current_thread() is not main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, factory: Factory) -> None:
    """What a worker does."""
    items: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_receive, args=(connection, items), daemon=True).start()
    try:
        work = factory()
        connection.send(("ready", None))
        while True:
            connection.send(("done", attempt(work, items.get())))
    except BaseException as error:
        connection.send(("raised", _sendable(error)))


def _receive(connection: Connection, items: SimpleQueue[Any]) -> None:
    """Take items, also while one is under way; end with whoever sent them, even where it was killed."""
    try:
        while True:
            items.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


def _sendable(error: BaseException) -> BaseException:
    """An error that can be sent; that of a fault in the program tells where it came from."""
    if isinstance(error, ValueError | OSError | ImportError | EndRun):
        try:
            pickle.loads(pickle.dumps(error))
            return error
        except Exception:
            return ChildProcessError(str(error))
    return RuntimeError("".join(traceback.format_exception(error)))


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
