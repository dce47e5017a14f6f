"""Work on items in actors of a Ray cluster, which may die with their nodes; see `detector.parallel.map_images`.

Needs the extra ``ray``. Items are sent in batches, since a call costs a millisecond. Restarts are ours, not Ray's: its
retries would repeat a whole batch, and could not name the item that an actor died of.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from detector.parallel.map_images import EndRun, Factory, Item, Shared, Work, attempt
from detector.parallel.task_queue import TaskQueue
from detector.parallel.workers import AHEAD, Worker, run_workers
from detector.runtime.environment import SAFE_PATH, environment_variables
from detector.runtime.files import program_digest
from detector.runtime.optional import optional
from detector.runtime.threads import one_thread_environment

_MAX_ITEMS = 64
_WINDOW = 2 * AHEAD * _MAX_ITEMS
"""Items per actor that are in progress, or done while an earlier one is not."""
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
            # of the actor, its node, or the results on it
            died = ray.exceptions.RayError
            owners = [number if self.owners else 0 for number in range(workers)]
            actors = [_ActorWorker(factory, died, owner, ray=ray, packer=packer) for owner in owners]
            queue = TaskQueue(items, workers * _WINDOW, workers if self.owners else 1)
            yield from run_workers(actors, queue)


def check_ray() -> None:
    """Raise MissingPackageError where Ray is not installed."""
    optional("ray", "ray")


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with environment_variables(SAFE_PATH):
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


@dataclass
class _ActorWorker(Worker):
    """An actor; ``packer`` packs its items."""

    max_batch: ClassVar[int] = _MAX_ITEMS
    waits: ClassVar[bool] = True

    ray: Any = None
    packer: Packer | None = None
    _actor: Any = None

    def start(self) -> Future[Any]:
        settings = {"num_cpus": 1, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        actor = self.ray.remote(**settings, runtime_env={"env_vars": {**one_thread_environment(), **SAFE_PATH}})(_Actor)
        self._actor = actor.remote()
        return self._actor.begin.remote(self.factory).future()

    def send(self, items: Sequence[Any]) -> Future[list[Any]]:
        assert self.packer is not None
        packed, shared = self.packer.pack(items)
        return self._actor.do.remote(packed, *shared).future()

    def result(self, future: Future[Any]) -> Any:
        try:
            value = future.result()
        except self.ray.exceptions.RayTaskError as error:  # raised by the work itself
            raise _raised(error) from None
        if isinstance(value, Host):
            _check_host(value)
        return value

    def end(self) -> str:
        if self._actor is not None:
            self.ray.kill(self._actor)
            self._actor = None
        return ""


class _Actor:
    """The code that runs on the cluster."""

    def begin(self, factory: Factory) -> Host:
        self._work: Work = factory()
        return this_host()

    def do(self, items: Sequence[Any], *shared: Any) -> list[Any]:
        return [attempt(self._work, item) for item in unpack(items, shared)]


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
