"""Work on items on a Ray cluster, by actors that may die with their nodes; see `detector.parallel.map_images`.

The extra ``ray``. Actors do what `detector.parallel.processes` does on one machine; items go to them in batches, since a
call costs a millisecond.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from detector.parallel.map_images import EndRun, Factory, Item, Shared, Work, attempt
from detector.parallel.task_queue import ATTEMPTS, Task, TaskQueue
from detector.runtime.files import program_digest
from detector.runtime.optional import optional
from detector.runtime.threads import one_thread_environment


class Parcels:
    """Packs items. What they share stays on the cluster until they share another value."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._sent: tuple[Shared, Any] | None = None

    def pack(self, items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The items, with numbers in place of what they share, and the references which these number."""
        shared = list({id(each.shared): each.shared for each in items if _shares(each, Shared)}.values())
        numbers = {id(each): number for number, each in enumerate(shared)}
        packed = [replace(each, shared=numbers[id(each.shared)]) if _shares(each, Shared) else each for each in items]
        return packed, [self._reference(each) for each in shared]

    def _reference(self, shared: Shared) -> Any:
        if self._sent is None or self._sent[0] is not shared:
            self._sent = shared, self._ray.put(shared.value)
        return self._sent[1]


def unpack(items: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """The items of `Parcels.pack`, of which the references came as ``values``."""
    shared = [Shared(value) for value in values]
    return [replace(each, shared=shared[each.shared]) if _shares(each, int) else each for each in items]


def _shares(item: Any, kind: type) -> bool:
    return isinstance(getattr(item, "shared", None), kind)


_AHEAD = 2
"""Calls of an actor that are under way, so that it need not wait for the next one."""
_BATCH_SECONDS = 0.1
"""Batches grow up to the most items while they take less."""
_MOST_ITEMS = 64
_WINDOW = 2 * _AHEAD * _MOST_ITEMS
"""Items an actor that are under way, or done while an earlier one is not."""
_PATIENCE = 30.0
"""Seconds after which it is told that no actor is ready."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RayActors:
    """So many ``workers``, actors of one processor each; where None, one for each processor of the cluster but one.

    address: of the cluster, as ``ray.init`` takes it; where None, that of RAY_ADDRESS, or Ray is started here. An actor
    that dies, or whose node does, is started again where there is a place, and its items are done again. With
    ``owners``, all items of an image go to the same actor, which finds what it kept of it on its own node.
    """

    workers: int | None = None
    address: str | None = None
    owners: bool = False

    def __call__(self, factory: Factory, items: Iterable[Item]) -> Generator[tuple[Item, Any], None, None]:
        ray = optional("ray", "ray")
        with _connected(ray, self.address):
            workers = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
            parcels = Parcels(ray)
            crew = [_Crewman(ray, factory, parcels, number if self.owners else 0) for number in range(workers)]
            queue = TaskQueue(items, workers * _WINDOW, workers if self.owners else 1)
            try:
                while True:
                    _hand_out(crew, queue)
                    yield from queue.in_order()
                    if queue.is_done:
                        return
                    # no calls where all was done that there was room for, and now there is more
                    if any(each.calls for each in crew):
                        _wait(ray, crew, queue)
            finally:
                for each in crew:
                    each.end()


def check_ray() -> None:
    """Raise MissingPackageError where Ray is not installed."""
    optional("ray", "ray")


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


class Place(NamedTuple):
    """Where an actor is: digest of the program, kind of processor, name of the machine."""

    program: str
    processor: str
    machine: str


def this_place() -> Place:
    """That of this process."""
    processor = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return Place(program_digest(), processor, platform.node())


class _Actor:
    """What runs on the cluster."""

    def begin(self, factory: Factory) -> Place:
        self._work: Work = factory()
        return this_place()

    def do(self, items: Sequence[Any], *shared: Any) -> list[Any]:
        return [attempt(self._work, item) for item in unpack(items, shared)]


class _Call(NamedTuple):
    """Tasks under way, since when."""

    reference: Any
    tasks: Sequence[Task]
    start: float


@dataclass
class _Crewman:
    """An actor and its calls under way, in order; starts: how often it was started and was not ready.

    owner: whose items it does.
    """

    ray: Any
    factory: Factory
    parcels: Parcels
    owner: int
    calls: deque[_Call] = field(default_factory=deque)
    starts: int = 0
    batch: int = 1
    is_ready: bool = False
    _actor: Any = None

    def start(self) -> None:
        """Ask for an actor."""
        actor = self.ray.remote(
            num_cpus=1,
            max_restarts=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": one_thread_environment()},
        )(_Actor)
        self._actor, self.starts = actor.remote(), self.starts + 1
        self.calls.append(_Call(self._actor.begin.remote(self.factory), (), time.monotonic()))

    def assign(self, tasks: Sequence[Task]) -> None:
        """Have tasks done."""
        items, shared = self.parcels.pack([task.item for task in tasks])
        reference = self._actor.do.remote(items, *shared)
        self.calls.append(_Call(reference, tasks, time.monotonic()))

    def receive(self, queue: TaskQueue) -> None:
        """Take in what came of the first call."""
        call = self.calls[0]
        try:
            result = self.ray.get(call.reference)
        except self.ray.exceptions.RayTaskError as error:
            raise _raised(error) from None
        except self.ray.exceptions.RayError as error:  # of the actor, its node, or the results that were there
            self._bury(queue, type(error).__name__)
            return
        self.calls.popleft()
        if not self.is_ready:
            _check_place(result)
            self.is_ready, self.starts = True, 0
            return
        for task, each in zip(call.tasks, result, strict=True):
            queue.finish(task, each)
        if time.monotonic() - call.start < _BATCH_SECONDS:
            self.batch = min(2 * self.batch, _MOST_ITEMS)

    @property
    def does_again(self) -> bool:
        """Whether a task that is done again is under way."""
        return any(task.retried for call in self.calls for task in call.tasks)

    def end(self) -> None:
        """End the actor, whatever it does."""
        if self._actor is not None:
            self.ray.kill(self._actor)
            self._actor = None

    def _bury(self, queue: TaskQueue, how: str) -> None:
        self.end()
        if self.starts == ATTEMPTS:
            raise ChildProcessError(f"{ATTEMPTS} actors ended before they were ready ({how})")
        first = self.calls[0].tasks
        culprit = first[0] if len(first) == 1 else None
        queue.retry([task for call in self.calls for task in call.tasks], culprit, how)
        self.calls.clear()
        self.is_ready, self.batch = False, 1


def _hand_out(crew: Sequence[_Crewman], queue: TaskQueue) -> None:
    for each in crew:
        if not each.calls and not each.is_ready:
            each.start()
    for load in range(_AHEAD):
        for each in crew:
            # one that has no place yet gets nothing: others may have one
            if not each.is_ready or len(each.calls) != load or each.does_again:
                continue
            # what is done again has an actor for itself: with it, results of calls before may be lost
            if tasks := queue.take(each.batch, each.owner, retry=load == 0):
                each.assign(tasks)


def _wait(ray: Any, crew: Sequence[_Crewman], queue: TaskQueue) -> None:
    first = {each.calls[0].reference: each for each in crew if each.calls}
    ready: list[Any] = []
    while not ready:
        ready, _ = ray.wait([*first], num_returns=1, timeout=_PATIENCE)
        if not ready and not any(each.is_ready for each in crew):
            _log.warning("no actor is ready yet: each needs a processor of the cluster that nobody else has taken")
    # all that are ready by now
    ready, _ = ray.wait([*first], num_returns=len(first), timeout=0)
    for reference in ready:
        first[reference].receive(queue)


def _check_place(place: Place) -> None:
    here = this_place()
    if place.program != here.program:
        raise ValueError(f"{place.machine} has another version of the program than this machine: install the same one")
    if place.processor != here.processor:
        _log.warning(
            "%s has another processor (%s) than this machine (%s): last digits may differ",
            *(place.machine, place.processor, here.processor),
        )


def _raised(error: Any) -> BaseException:
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, ValueError | OSError | ImportError | EndRun) else RuntimeError(str(error))
