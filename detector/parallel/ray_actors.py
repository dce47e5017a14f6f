"""Work on items in actors of a Ray cluster, which may die with their nodes; see `detector.parallel.map_images`.

Needs the extra ``ray``. Items are sent in batches, since a call costs a millisecond. Restarts are ours, not Ray's: its
retries would repeat a whole batch, and could not name the item that an actor died of.
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


class Packer:
    """Pack items to send. A value that they share stays on the cluster until they share another one."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._sent: tuple[Shared, Any] | None = None

    def pack(self, items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Return the items with indices in place of shared values, and the references to these values."""
        shared = list({id(each.shared): each.shared for each in items if _shares(each, Shared)}.values())
        numbers = {id(each): number for number, each in enumerate(shared)}
        packed = [replace(each, shared=numbers[id(each.shared)]) if _shares(each, Shared) else each for each in items]
        return packed, [self._reference(each) for each in shared]

    def _reference(self, shared: Shared) -> Any:
        if self._sent is None or self._sent[0] is not shared:
            self._sent = shared, self._ray.put(shared.value)
        return self._sent[1]


def unpack(items: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Return the items that `Packer.pack` packed; the references have arrived as ``values``."""
    shared = [Shared(value) for value in values]
    return [replace(each, shared=shared[each.shared]) if _shares(each, int) else each for each in items]


def _shares(item: Any, kind: type) -> bool:
    return isinstance(getattr(item, "shared", None), kind)


_AHEAD = 2
"""Calls of an actor at a time, so that it need not wait for the next one."""
_BATCH_SECONDS = 0.1
"""Batches grow, up to `_MAX_ITEMS`, while they take less."""
_MAX_ITEMS = 64
_WINDOW = 2 * _AHEAD * _MAX_ITEMS
"""Items per actor that are in progress, or done while an earlier one is not."""
_PATIENCE = 30.0
"""Seconds after which a warning says that no actor is ready."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RayActors:
    """An `Engine` of ``workers`` actors with one processor each; by default, all processors of the cluster but one.

    address: of the cluster, as ``ray.init`` takes it; by default RAY_ADDRESS, or Ray is started here.
    owners: send all items of an image to the same actor, whose node has cached them.
    An actor that dies is started again where a processor is free, and its items are done again.
    """

    workers: int | None = None
    address: str | None = None
    owners: bool = False

    def __call__(self, factory: Factory, items: Iterable[Item]) -> Generator[tuple[Item, Any], None, None]:
        ray = optional("ray", "ray")
        with _connected(ray, self.address):
            workers = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
            packer = Packer(ray)
            actors = [_Worker(ray, factory, packer, number if self.owners else 0) for number in range(workers)]
            queue = TaskQueue(items, workers * _WINDOW, workers if self.owners else 1)
            try:
                while True:
                    _assign_tasks(actors, queue)
                    yield from queue.in_order()
                    if queue.is_done:
                        return
                    # no calls are in progress where the window was full of results, which are taken now
                    if any(each.calls for each in actors):
                        _wait(ray, actors, queue)
            finally:
                for each in actors:
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


class Host(NamedTuple):
    """Digest of the program, kind of processor and name of the machine of a process."""

    program: str
    processor: str
    machine: str


def this_host() -> Host:
    """Return the host of this process."""
    processor = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return Host(program_digest(), processor, platform.node())


class _Actor:
    """The code that runs on the cluster."""

    def begin(self, factory: Factory) -> Host:
        self._work: Work = factory()
        return this_host()

    def do(self, items: Sequence[Any], *shared: Any) -> list[Any]:
        return [attempt(self._work, item) for item in unpack(items, shared)]


class _Call(NamedTuple):
    """Tasks in progress since ``start``; none while the actor makes its work."""

    reference: Any
    tasks: Sequence[Task]
    start: float


@dataclass
class _Worker:
    """An actor and its calls in progress, in order.

    owner: the index of the owner whose items it works on. starts: how often it was started since it was last ready.
    """

    ray: Any
    factory: Factory
    packer: Packer
    owner: int
    calls: deque[_Call] = field(default_factory=deque)
    starts: int = 0
    batch: int = 1
    is_ready: bool = False
    _actor: Any = None

    def start(self) -> None:
        """Request an actor."""
        actor = self.ray.remote(
            num_cpus=1,
            max_restarts=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": one_thread_environment()},
        )(_Actor)
        self._actor, self.starts = actor.remote(), self.starts + 1
        self.calls.append(_Call(self._actor.begin.remote(self.factory), (), time.monotonic()))

    def assign(self, tasks: Sequence[Task]) -> None:
        """Send tasks to the actor."""
        items, shared = self.packer.pack([task.item for task in tasks])
        reference = self._actor.do.remote(items, *shared)
        self.calls.append(_Call(reference, tasks, time.monotonic()))

    def receive(self, queue: TaskQueue) -> None:
        """Take the result of the first call, or the end of the actor."""
        call = self.calls[0]
        try:
            result = self.ray.get(call.reference)
        except self.ray.exceptions.RayTaskError as error:
            raise _raised(error) from None
        except self.ray.exceptions.RayError as error:  # of the actor, its node, or the results that were there
            self._retry(queue, type(error).__name__)
            return
        self.calls.popleft()
        if not self.is_ready:
            _check_host(result)
            self.is_ready, self.starts = True, 0
            return
        for task, each in zip(call.tasks, result, strict=True):
            queue.finish(task, each)
        if time.monotonic() - call.start < _BATCH_SECONDS:
            self.batch = min(2 * self.batch, _MAX_ITEMS)

    @property
    def retries(self) -> bool:
        """Whether a retried task is in progress."""
        return any(task.retried for call in self.calls for task in call.tasks)

    def end(self) -> None:
        """End the actor, whatever it does."""
        if self._actor is not None:
            self.ray.kill(self._actor)
            self._actor = None

    def _retry(self, queue: TaskQueue, reason: str) -> None:
        self.end()
        if self.starts == ATTEMPTS:
            raise ChildProcessError(f"{ATTEMPTS} actors ended before they were ready ({reason})")
        first = self.calls[0].tasks
        culprit = first[0] if len(first) == 1 else None
        queue.retry([task for call in self.calls for task in call.tasks], culprit, reason)
        self.calls.clear()
        self.is_ready, self.batch = False, 1


def _assign_tasks(workers: Sequence[_Worker], queue: TaskQueue) -> None:
    for each in workers:
        if not each.calls and not each.is_ready:
            each.start()
    for load in range(_AHEAD):
        for each in workers:
            # an actor that waits for a processor gets nothing: others may be ready
            if not each.is_ready or len(each.calls) != load or each.retries:
                continue
            # a retried task has an actor for itself: its death would lose the results of earlier calls
            if tasks := queue.take(each.batch, each.owner, retry=load == 0):
                each.assign(tasks)


def _wait(ray: Any, workers: Sequence[_Worker], queue: TaskQueue) -> None:
    first = {each.calls[0].reference: each for each in workers if each.calls}
    ready: list[Any] = []
    while not ready:
        ready, _ = ray.wait([*first], num_returns=1, timeout=_PATIENCE)
        if not ready and not any(each.is_ready for each in workers):
            _log.warning("no actor is ready yet: each needs a processor of the cluster that nobody else has taken")
    # all that are ready by now
    ready, _ = ray.wait([*first], num_returns=len(first), timeout=0)
    for reference in ready:
        first[reference].receive(queue)


def _check_host(host: Host) -> None:
    here = this_host()
    if host.program != here.program:
        raise ValueError(f"{host.machine} has another version of the program than this machine: install the same one")
    if host.processor != here.processor:
        _log.warning(
            "%s has another processor (%s) than this machine (%s): last digits may differ",
            *(host.machine, host.processor, here.processor),
        )


def _raised(error: Any) -> BaseException:
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, ValueError | OSError | ImportError | EndRun) else RuntimeError(str(error))
