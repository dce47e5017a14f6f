"""Order, failures, deaths and ends of work, whatever the engine."""

from __future__ import annotations

import os
import re
import signal
import tracemalloc
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Lock

import pytest
import torch
from threadpoolctl import threadpool_info

from detector.parallel.map_images import Engine, Failure, Sequential, Threads, map_images
from detector.parallel.processes import Processes
from detector.runtime.threads import thread_count
from tests.parallel.workers import Doing, NeverReady, Raising, interrupt_me

ITEMS = ["a", "bad 1", "b", "missing 1", "c", *(f"item {number}" for number in range(30))]
ENGINES = [Sequential(), Threads(1), Threads(3), Processes(1), Processes(3)]


def expected(item: str, folder: Path) -> str | Failure:
    if item.startswith("bad"):
        return Failure(f"{item} is bad")
    if item.startswith("missing"):
        return Failure(f"{folder / item}: no such file or directory")
    return item.upper()


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_results_and_failures_come_in_order(engine: Engine, tmp_path: Path) -> None:
    assert list(map_images(Doing(tmp_path), ITEMS, engine)) == [(item, expected(item, tmp_path)) for item in ITEMS]
    assert list(map_images(Doing(tmp_path), [], engine)) == []
    assert list(map_images(Doing(tmp_path), ["one"], engine)) == [("one", "ONE")]


@pytest.mark.parametrize("engine", [Threads(2), Processes(2)], ids=str)
def test_no_more_items_are_taken_than_are_worked_on(engine: Engine, tmp_path: Path) -> None:
    taken = 0

    def items() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"item {taken}"

    ahead = []
    for number, _ in zip(range(1, 300), map_images(Doing(tmp_path), items(), engine), strict=False):
        ahead.append(taken - number)
    assert max(ahead) <= 16


@pytest.mark.all
def test_memory_does_not_grow_with_the_items(tmp_path: Path) -> None:
    peaks = []
    for count in (300, 1500):
        items = (f"item {number:0500d}" for number in range(count))
        tracemalloc.start()
        for _ in map_images(Doing(tmp_path), items, Processes(1)):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 50_000  # the items are 600 kB more


def test_items_of_workers_that_die_are_done_again(tmp_path: Path) -> None:
    items = ["a", "die once 1", "b", "die twice", "c", "die always", *ITEMS, "die once 2"]
    results = list(map_images(Doing(tmp_path), items, Processes(2)))
    assert [item for item, _ in results] == items
    failure = Failure("die always: 3 workers died of it (killed by signal 9)")
    assert [result for _, result in results] == [
        failure if item == "die always" else expected(item, tmp_path) for item in items
    ]
    assert len([*tmp_path.glob("die always.*")]) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_lost_where_results_fill_all_the_room(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.parallel.processes._WINDOW", 1)
    results = list(map_images(Doing(tmp_path), ["a", "b", "c", "d", "e"], Processes(workers)))
    assert [result for _, result in results] == ["A", "B", "C", "D", "E"]


def test_workers_that_are_never_ready_end_the_run() -> None:
    with pytest.raises(ChildProcessError, match=r"3 workers ended before they were ready \(exit code 7\)"):
        list(map_images(NeverReady(), ["a", "b"], Processes(1)))


@pytest.mark.parametrize("engine", [Threads(2), Processes(2)], ids=str)
def test_what_the_factory_raises_ends_the_run(engine: Engine) -> None:
    with pytest.raises(FileNotFoundError) as error:
        list(map_images(Raising(), ["a", "b"], engine))
    assert error.value.filename == "model"


def test_a_bug_ends_the_run_and_shows_where(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        list(map_images(Doing(tmp_path), ["a", "bug"], Threads(2)))
    with pytest.raises(KeyError, match="bug") as error:
        list(map_images(Doing(tmp_path), ["a", "bug"], Processes(2)))
    # where it happened in the worker
    assert re.search(r"workers\.py.*raise KeyError", str(error.value.__cause__), re.DOTALL)


def test_workers_have_one_thread_and_end_with_the_loop(tmp_path: Path) -> None:
    before = dict(os.environ)
    results = map_images(Doing(tmp_path), ["environment", *["pid 0"] * 50], Processes(2))
    assert next(results)[1] == {"OMP_NUM_THREADS": "1", "DETECTOR_THREADS": "1"}
    worker = next(results)[1]
    results.close()
    assert not Path(f"/proc/{worker}").exists()
    assert dict(os.environ) == before


def test_interrupt_ends_all_workers(tmp_path: Path) -> None:
    child = get_context("spawn").Process(target=interrupt_me, args=(tmp_path,))
    child.start()
    assert child.pid is not None
    wait_for(lambda: len([*tmp_path.glob("*.pid")]) == 2)
    os.kill(child.pid, signal.SIGINT)
    child.join()
    assert (tmp_path / "interrupted").exists()
    assert not any(Path(f"/proc/{path.stem}").exists() for path in tmp_path.glob("*.pid"))


def test_workers_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    child = get_context("spawn").Process(target=interrupt_me, args=(tmp_path,))
    child.start()
    wait_for(lambda: len([*tmp_path.glob("*.pid")]) == 2)
    child.kill()
    child.join()
    wait_for(lambda: not any(running(int(path.stem)) for path in tmp_path.glob("*.pid")))


def test_lanes_work_at_once_on_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR_THREADS", "2")
    before = torch.get_num_threads()
    both, lock, inside = Event(), Lock(), 0

    def work(item: int) -> tuple[int, int, set[int]]:
        nonlocal inside
        with lock:
            inside += 1
            if inside == 2:
                both.set()
        both.wait(30)
        blas = {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}
        return thread_count(), torch.get_num_threads(), blas

    results = [result for _, result in map_images(lambda: work, range(4), Threads())]
    assert results == [(1, 1, {1})] * 4
    assert torch.get_num_threads() == before
    # in turn, each gets all threads
    assert [result[:2] for _, result in map_images(lambda: work, [0], Sequential())] == [(2, before)]


@pytest.mark.parametrize("engine", [Sequential(), Threads(2), Processes(2)], ids=str)
def test_work_may_end_the_run(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no space left"):
        list(map_images(Doing(tmp_path), ["a", "full", "b"], engine))


def running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition: Callable[[], bool]) -> None:
    waiting = Event()
    for _ in range(600):
        if condition():
            return
        waiting.wait(0.05)
    raise AssertionError("it did not happen within 30 s")
