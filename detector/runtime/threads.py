"""Numbers of threads: for compiled code, for numpy and torch, and for work on several images."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from detector.runtime.environment import SetupError

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores(membership: Path = Path("/proc/self/cgroup"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the cores that this process may use, by its affinity and the CPU limits of its control groups.

    membership, cgroups: paths of Linux's control groups, versions 1 and 2. Elsewhere, all cores count.
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
        # limits apply to nested groups, too; a container sees its own group as the root
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                cores = min(cores, _limit(folder))
    return cores


def _limit(group: Path) -> int:
    """Return the whole cores that a control group may use, at least one."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return max(1, int(quota) // int(period)) if quota not in ("max", "-1") else sys.maxsize
    except OSError:
        return sys.maxsize


def thread_count(threads: int | None = None) -> int:
    """Return ``threads``; by default the environment variable DETECTOR_THREADS or, without it, `usable_cores`.

    The default is 1 inside of `on_one_thread_each`. Raises ValueError for less than one.
    """
    if threads is None and _alone.get():
        return 1
    if threads is None:
        named = os.environ.get("DETECTOR_THREADS")
        if named and not (named.isdecimal() and int(named)):
            raise SetupError(f"DETECTOR_THREADS must be a whole number of at least 1, but is {named!r}")
        threads = int(named or usable_cores())
    if threads < 1:
        raise ValueError(f"threads must be at least 1, but got {threads}")
    return threads


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """Return the results of a function of every item, in order; for functions that release the GIL."""
    if threads == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def limit_torch_threads() -> None:
    """Limit torch to `thread_count` threads: it respects the affinity, but not control groups.

    Processes that are forked later compute on one thread: OpenMP would wait for the threads of the parent.
    """
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), thread_count()))
    _limit_forks()


@cache
def _limit_forks() -> None:
    import torch

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


@contextmanager
def products_on_one_thread() -> Iterator[None]:
    """Limit matrix products of numpy and torch to one thread, for work that runs in several threads already.

    One thread at a time is inside: the limits are those of the process, and a second thread would restore wrong ones.
    """
    if _alone.get():  # limited already
        yield
        return
    with _one_at_a_time, _restored_torch_threads() as torch, _controller().limit(limits=1, user_api="blas"):
        if torch is not None:
            torch.set_num_threads(1)
        yield


@contextmanager
def on_one_thread_each() -> Iterator[Callable[[], None]]:
    """Yield a function that each of several threads calls first, to compute on one thread from then on.

    numpy and torch start no threads in it either. So threads do not compete for cores, and results are bit-identical
    however many there are.
    """
    with _one_at_a_time, _restored_torch_threads() as torch, _controller().limit(limits=1, user_api="blas"):

        def begin() -> None:
            _alone.set(True)
            if torch is not None:
                torch.set_num_threads(1)  # OpenMP keeps a number for each thread

        yield begin


@contextmanager
def _restored_torch_threads() -> Iterator[Any]:
    """Yield torch, and restore its number of threads; None where torch is not imported, so not used."""
    torch = sys.modules.get("torch")
    threads = 1 if torch is None else torch.get_num_threads()
    try:
        yield torch
    finally:
        if torch is not None:
            torch.set_num_threads(threads)


def one_thread_environment() -> dict[str, str]:
    """Return the environment variables of a process whose libraries start no threads; set them before it starts."""
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
    # cached: finding the libraries takes milliseconds
    return ThreadpoolController()
