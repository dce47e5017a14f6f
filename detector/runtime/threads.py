"""How many threads the compiled code may use, and work shared out among them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import RLock
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def thread_count(threads: int | None = None) -> int:
    """``threads`` or, where that is None, the environment variable DETECTOR_THREADS or, without it, all cores.

    Raises ValueError for less than one.
    """
    if threads is None:
        named = os.environ.get("DETECTOR_THREADS")
        if named is not None and not named.isdecimal():
            raise ValueError(f"DETECTOR_THREADS must be a whole number, but is {named!r}")
        threads = int(named or os.cpu_count() or 1)
    if threads < 1:
        raise ValueError(f"threads must be at least 1, but got {threads}")
    return threads


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """Results of a function of every item, in order; for functions that spend their time without the GIL."""
    if threads == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


@contextmanager
def products_on_one_thread() -> Iterator[None]:
    """Keep numpy's and torch's matrix products from starting threads of their own, for work shared out already.

    Only one thread at a time is inside, others wait: these limits are the process's, and whoever came second would
    restore those of the first.
    """
    import torch

    with _one_at_a_time:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with _controller().limit(limits=1, user_api="blas"):
                yield
        finally:
            torch.set_num_threads(threads)


_one_at_a_time = RLock()


@cache
def _controller() -> ThreadpoolController:
    # finding the libraries takes milliseconds
    return ThreadpoolController()
