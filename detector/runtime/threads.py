"""How many threads the compiled code may use, and work shared out among them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from threading import RLock
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores(membership: Path = Path("/proc/self/cgroup"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use: those of its affinity, and no more than its control groups' share of time.

    ``membership`` and ``cgroups``: where Linux tells of the groups, of both versions. Elsewhere, all cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not membership.exists():
        return cores
    for line in membership.read_text().splitlines():
        _, controllers, name = line.split(":", 2)
        root = cgroups / "cpu" if controllers else cgroups
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = root / name.lstrip("/")
        # a limit holds for the groups inside, too; a container sees its own group as the root
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                cores = min(cores, _limit(folder))
    return cores


def _limit(group: Path) -> int:
    """Whole cores whose time a control group may take, at least one."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return max(1, int(quota) // int(period)) if quota not in ("max", "-1") else sys.maxsize
    except OSError:
        return sys.maxsize


def thread_count(threads: int | None = None) -> int:
    """``threads`` or, where that is None, the environment variable DETECTOR_THREADS or, without it, `usable_cores`.

    One for work on one thread each (`on_one_thread_each`). Raises ValueError for less than one.
    """
    if threads is None and _alone.get():
        return 1
    if threads is None:
        named = os.environ.get("DETECTOR_THREADS")
        if named is not None and not named.isdecimal():
            raise ValueError(f"DETECTOR_THREADS must be a whole number, but is {named!r}")
        threads = int(named or usable_cores())
    if threads < 1:
        raise ValueError(f"threads must be at least 1, but got {threads}")
    return threads


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """Results of a function of every item, in order; for functions that spend their time without the GIL."""
    if threads == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def limit_torch_threads() -> None:
    """Keep torch from more threads than `thread_count`: it knows of the affinity, but not of control groups."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), thread_count()))


@contextmanager
def products_on_one_thread() -> Iterator[None]:
    """Keep numpy's and torch's matrix products from starting threads of their own, for work shared out already.

    Only one thread at a time is inside, others wait: these limits are the process's, and whoever came second would
    restore those of the first.
    """
    if _alone.get():  # limited already
        yield
        return
    with _one_at_a_time, _torch_on_one_thread(), _controller().limit(limits=1, user_api="blas"):
        yield


@contextmanager
def _torch_on_one_thread() -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:  # nothing is computed with what was not imported
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def on_one_thread_each() -> Iterator[Callable[[], None]]:
    """For several threads that each work on something of their own: what each of them calls first.

    From there on it starts no threads, in numpy and torch neither, so that threads do not fight for cores, and results
    are the same to the last bit however many there are.
    """
    torch = sys.modules.get("torch")

    def begin() -> None:
        _alone.set(True)
        if torch is not None:
            torch.set_num_threads(1)  # OpenMP keeps a number for each thread

    with _one_at_a_time:
        threads = torch.get_num_threads() if torch is not None else 0
        try:
            with _controller().limit(limits=1, user_api="blas"):
                yield begin
        finally:
            if torch is not None:
                torch.set_num_threads(threads)


def one_thread_environment() -> dict[str, str]:
    """Environment variables of a process whose libraries start no threads; to be set before they are loaded."""
    libraries = ("DETECTOR", "OMP", "OPENBLAS", "MKL", "NUMBA")
    return {
        **{f"{name}_{'THREADS' if name == 'DETECTOR' else 'NUM_THREADS'}": "1" for name in libraries},
        "OPENCV_FOR_THREADS_NUM": "1",
        "OMP_WAIT_POLICY": "passive",
    }


_alone: ContextVar[bool] = ContextVar("alone", default=False)
_one_at_a_time = RLock()


@cache
def _controller() -> ThreadpoolController:
    # finding the libraries takes milliseconds
    return ThreadpoolController()
