"""Map a function over many images: in this process, in threads, in processes, or on a cluster.

    def factory(): return work                 # called once per worker: loads a model, say
    for item, result in map_images(factory, items, Processes(4)): ...

Items are small (a path, an id), and results come in their order. Results do not depend on the engine, nor on which of
its workers died: each item is processed alone, on one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Protocol, TypeVar

from detector.runtime.threads import on_one_thread_each, thread_count

Item = TypeVar("Item")
Work = Callable[[Any], Any]
"""Maps an item to its result. ValueError and OSError cost this item alone; other exceptions end the run."""
Factory = Callable[[], Work]
"""Makes the work in a worker; its exceptions end the run. For processes and clusters it must be picklable."""

MAX_LANES = 8
"""Maximum images in progress in one process: each holds its own feature maps. Use processes for more cores."""


@dataclass(frozen=True)
class Failure:
    """The result of an item that failed; the message is one line."""

    message: str


@dataclass(frozen=True, eq=False)
class Shared:
    """A large value of many items, in their field ``shared``: an engine may send it less often than the items."""

    value: Any


class Engine(Protocol):
    """A place where work runs. Closing the generator ends all that it started."""

    def __call__(self, factory: Factory, items: Iterable[Item]) -> Generator[tuple[Item, Any], None, None]:
        """Yield each item with its result or `Failure`, in order; items are taken only as workers need them."""
        ...


class EndRun(Exception):  # noqa: N818 (no error of its own)
    """Raised by work to end the run with an error that would otherwise cost its item alone, such as a full disk."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def map_images(factory: Factory, items: Iterable[Item], engine: Engine) -> Generator[tuple[Item, Any], None, None]:
    """Yield each item with its result, or with a `Failure` where it raised ValueError or OSError or its workers died.

    All workers end with the loop, however it ends. Raises what the factory raises, and ChildProcessError where workers
    die before they are ready.
    """
    results = engine(factory, items)
    try:
        yield from results
    except EndRun as end:
        raise end.error from end
    finally:
        results.close()


@dataclass(frozen=True)
class Sequential:
    """An `Engine` in this process: one item after the other, each on all threads, which is best for a single one."""

    def __call__(self, factory: Factory, items: Iterable[Item]) -> Generator[tuple[Item, Any], None, None]:
        work: Work | None = None
        for item in items:
            work = work or factory()
            yield item, attempt(work, item)


@dataclass(frozen=True)
class Threads:
    """An `Engine` in this process, with ``lanes`` items in progress (default: `thread_count`), each on one thread.

    The factory is called with the first item.
    """

    lanes: int | None = None

    def __call__(self, factory: Factory, items: Iterable[Item]) -> Generator[tuple[Item, Any], None, None]:
        iterator = iter(items)
        if not (first := [*islice(iterator, 1)]):
            return
        work = factory()
        lanes = min(thread_count(), MAX_LANES) if self.lanes is None else self.lanes
        waiting: deque[tuple[Item, Future[Any]]] = deque()
        with on_one_thread_each() as begin, ThreadPoolExecutor(lanes, initializer=begin) as pool:
            try:
                for item in chain(first, iterator):
                    waiting.append((item, pool.submit(attempt, work, item)))
                    if len(waiting) == 2 * lanes:
                        item, result = waiting.popleft()
                        yield item, result.result()
                while waiting:
                    item, result = waiting.popleft()
                    yield item, result.result()
            finally:
                pool.shutdown(cancel_futures=True)


def attempt(work: Work, item: Any) -> Any:
    """Return ``work(item)``, or a `Failure` that names the item where it raises ValueError or OSError."""
    try:
        return work(item)
    except BrokenPipeError:  # of our own output, not of the item
        raise
    except (ValueError, OSError) as error:
        return Failure(one_line(error, item if isinstance(item, str) else str(getattr(item, "path", ""))))


def one_line(error: BaseException, name: str = "") -> str:
    """Return the message of an error on one line, with the file that it is about.

    ``name`` is put in front where the message lacks it.
    """
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        # a stream has no name
        message = ": ".join(map(str, filter(None, [error.filename, error.strerror.lower()])))
    if isinstance(error, MemoryError):
        message = "there is not enough memory"
    message = message if name in message else f"{name}: {message}"
    return " ".join(message.split())
