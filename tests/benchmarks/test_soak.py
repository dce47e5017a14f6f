"""Long runs: what counts as a leak, and that a short one has none."""

from __future__ import annotations

import os
import threading
from argparse import ArgumentParser
from pathlib import Path

import pytest

from benchmarks.soak import Use, add_options, leaks_in, measure, settled_use_of, use_of

MODEL = Path(__file__).parents[1] / "golden" / "1" / "run" / "model.safetensors"


def test_what_grows_after_the_warm_up_is_a_leak() -> None:
    assert leaks_in([Use(100, 5, 2), Use(400, 9, 4), Use(440, 9, 4)], 50) == []
    assert leaks_in([Use(100, 5, 2), Use(400, 9, 4), Use(451, 10, 5)], 50) == [
        "memory grew by 51 MB",
        "descriptors grew from 9 to 10",
        "threads grew from 4 to 5",
    ]
    assert leaks_in([Use(400, 9, 4), Use(300, 5, 2)], 50) == []


def test_the_use_of_this_process_is_counted(tmp_path: Path) -> None:
    before, end = use_of(os.getpid()), threading.Event()
    thread = threading.Thread(target=end.wait)
    with (tmp_path / "a").open("w"):
        thread.start()
        after = use_of(os.getpid())
    end.set()
    thread.join()
    assert before.megabytes > 10
    assert (after.descriptors, after.threads) == (before.descriptors + 1, before.threads + 1)
    assert use_of(2**22 + 1) == Use(0, 0, 0)


def test_what_is_just_being_closed_does_not_count(tmp_path: Path) -> None:
    before = use_of(os.getpid())
    file = (tmp_path / "a").open("w")
    timer = threading.Timer(0.15, file.close)
    timer.start()
    assert use_of(os.getpid()).descriptors == before.descriptors + 1
    assert settled_use_of(os.getpid()).descriptors == before.descriptors
    timer.join()
    with (tmp_path / "a").open():
        assert settled_use_of(os.getpid()).descriptors == before.descriptors + 1


@pytest.mark.all
@pytest.mark.parametrize("kind", ["process", "page"])
def test_a_short_run_has_no_leak(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser()
    add_options(parser)
    assert measure(parser.parse_args(["--images", "40", "--kinds", kind, "--model", str(MODEL)])) == 0
    assert capsys.readouterr().out.endswith("no leak\n")
