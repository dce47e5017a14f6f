"""Limits on threads: work in several threads at once leaves the process as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Thread

import pytest
import torch
from threadpoolctl import threadpool_info

from detector.runtime.threads import in_threads, products_on_one_thread, thread_count


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def limits() -> tuple[int, list[int]]:
    """The threads of torch, as a new thread sees them, and of every BLAS."""
    found: list[int] = []
    thread = Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0], [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


@pytest.mark.usefixtures("two_threads")
def test_work_in_several_threads_leaves_the_limits_as_they_were() -> None:
    before = limits()

    def work(seconds: float) -> None:
        with products_on_one_thread():
            time.sleep(seconds)

    threads = [Thread(target=work, args=(seconds,)) for seconds in (0.1, 0.2)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)  # the second begins while the first is inside, and ends after it
    for thread in threads:
        thread.join()
    assert limits() == before


@pytest.mark.usefixtures("two_threads")
def test_every_product_is_limited_inside() -> None:
    before = limits()
    with products_on_one_thread(), products_on_one_thread():
        assert limits() == (1, [1] * len(before[1]))
    assert limits() == before


def test_results_come_in_order() -> None:
    assert in_threads(lambda number: number * number, range(9), 3) == [number * number for number in range(9)]


@pytest.mark.parametrize("named", ["none", "0", "-1"])
def test_wrong_counts_are_refused(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR_THREADS", named)
    with pytest.raises(ValueError, match=r"threads must be|DETECTOR_THREADS must be"):
        thread_count()
