"""One seam between work on many images and where it runs: threads of this process, processes, a cluster.

    def factory(): return work                 # made once where it runs: loads a model, say
    for item, result in map_images(factory, items, Processes(4)): ...

Items are small (a path, an id), and results come in their order. What comes out does not depend on the engine, nor on
which of its workers died: each item is worked on alone, on one thread.
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
"""From an item to its result. ValueError and OSError cost this item alone; other exceptions end the run."""
Factory = Callable[[], Work]
"""Makes the work where it runs. What it raises ends the run. For processes and clusters it can be pickled."""

MOST_LANES = 8
"""Threads that work on images at once: each holds the feature maps of its own. More cores: more processes."""


@dataclass(frozen=True)
class Failure:
    """In place of a result: why there is none, in one line."""

    message: str


@dataclass(frozen=True, eq=False)
class Shared:
    """A large value that many items have, as their field ``shared``: an engine may send it less often than them."""

    value: Any


class Engine(Protocol):
    """Where work runs. Closing the generator ends all that it started."""

    def __call__(self, factory: Factory, items: Iterable[Item]) -> Generator[tuple[Item, Any], None, None]:
        """Each item with its result or `Failure`, in order. Only so many items are taken ahead as are worked on."""
        ...


class EndRun(Exception):  # noqa: N818 (no error of its own)
    """What work raises to end the run with an error that would else cost its item alone, such as of a full disk."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def map_images(factory: Factory, items: Iterable[Item], engine: Engine) -> Generator[tuple[Item, Any], None, None]:
    """Each item with its result, or with a `Failure` where it raised ValueError or OSError or its workers died.

    However the loop over it ends, all workers end. Raises what the factory raises, and ChildProcessError where workers
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
class InTurn:
    """This process, one item after the other, each by all threads: a single one is done soonest."""

    def __call__(self, factory: Factory, items: Iterable[Item]) -> Generator[tuple[Item, Any], None, None]:
        work: Work | None = None
        for item in items:
            work = work or factory()
            yield item, attempt(work, item)


@dataclass(frozen=True)
class Threads:
    """This process, with as many items under way as ``lanes`` (`thread_count` where None), each on one thread.

    The factory is called when there is an item.
    """

    lanes: int | None = None

    def __call__(self, factory: Factory, items: Iterable[Item]) -> Generator[tuple[Item, Any], None, None]:
        iterator = iter(items)
        if not (first := [*islice(iterator, 1)]):
            return
        work = factory()
        lanes = min(thread_count(), MOST_LANES) if self.lanes is None else self.lanes
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
    """``work(item)``, or the `Failure` that its ValueError or OSError is."""
    try:
        return work(item)
    except BrokenPipeError:  # of our own output, not of the item
        raise
    except (ValueError, OSError) as error:
        return Failure(one_line(error))


def one_line(error: BaseException) -> str:
    """What an error says, in one line, with the file that it is about."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        # a stream has no name
        message = ": ".join(map(str, filter(None, [error.filename, error.strerror.lower()])))
    if isinstance(error, MemoryError):
        message = "there is not enough memory"
    return " ".join(message.split())
