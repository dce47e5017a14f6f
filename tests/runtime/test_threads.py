"""Limits on threads: work in several threads at once leaves the process as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
import torch
from threadpoolctl import threadpool_info

from detector.backbones.torch_backbone import load_torch_backbone
from detector.runtime import threads as threads_module
from detector.runtime.threads import in_threads, products_on_one_thread, thread_count, usable_cores


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
    """One at a time is inside: who came second would restore the limits of the first."""
    before = limits()

    def free_for_others() -> bool:
        found: list[bool] = []

        def look() -> None:
            if free := threads_module._one_at_a_time.acquire(blocking=False):
                threads_module._one_at_a_time.release()
            found.append(free)

        thread = Thread(target=look)
        thread.start()
        thread.join()
        return found[0]

    assert free_for_others()
    with products_on_one_thread():
        assert not free_for_others()
    assert free_for_others()
    workers = [Thread(target=in_products) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert limits() == before


def in_products() -> None:
    with products_on_one_thread():
        assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("two_threads")
def test_every_product_is_limited_inside() -> None:
    before = limits()
    with products_on_one_thread(), products_on_one_thread():
        assert limits() == (1, [1] * len(before[1]))
    assert limits() == before


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("named", "expected"), [("1", 1), ("2", 2), ("9", 2)])
def test_convolution_takes_no_more_threads_than_it_may(
    named: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTOR_THREADS", named)
    load_torch_backbone("zf5/0.05", weights="random")
    assert torch.get_num_threads() == expected


def test_results_come_in_order() -> None:
    assert in_threads(lambda number: number * number, range(9), 3) == [number * number for number in range(9)]


@pytest.mark.parametrize("named", ["none", "0", "-1"])
def test_wrong_counts_are_refused(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR_THREADS", named)
    with pytest.raises(ValueError, match=r"threads must be|DETECTOR_THREADS must be"):
        thread_count()


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "350000 100000\n"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "500000 100000\n"}, 2),
        ("0::/a\n", {"a/cpu.max": "5000 100000\n"}, 1),
        ("0::/other\n", {"a/cpu.max": "5000 100000\n"}, 8),
        ("4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "400000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 4),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("3:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_no_more_cores_than_a_control_group_may_use(
    membership: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    (tmp_path / "groups").mkdir()
    (tmp_path / "membership").write_text(membership)
    for name, content in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(content)
    assert usable_cores(tmp_path / "membership", tmp_path / "groups") == expected


def test_no_more_threads_than_cores_of_the_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 4, 6}, raising=False)
    monkeypatch.delenv("DETECTOR_THREADS", raising=False)
    assert usable_cores(tmp_path / "nowhere") == 3
    assert thread_count() <= 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, ("2000", None)), ({"OMP_WAIT_POLICY": "active"}, (None, "active")), ({"GOMP_SPINCOUNT": "7"}, ("7", None))],
)
def test_threads_of_openmp_wait_calmly_unless_the_user_says_otherwise(
    given: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    code = f"import detector, os, sys; print([os.environ.get(n) for n in {names}], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{list(expected)} False"
