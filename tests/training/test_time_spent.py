"""The time of a training is that of all its starts together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detector.runtime.progress import no_progress
from detector.training import time_spent as module
from detector.training.time_spent import SECONDS_PER_WRITE, TimeSpent
from tests.fakes import stops_after


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time, to be changed."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def work(spent: TimeSpent, clock: list[float], progress: Any, n_items: int, seconds: float) -> None:
    for _ in spent.progress(progress)(range(n_items), "loop"):
        clock[0] += seconds


def test_the_seconds_of_killed_starts_count(tmp_path: Path, clock: list[float]) -> None:
    file = tmp_path / "cache" / "seconds"
    for number in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            work(TimeSpent(file), clock, stops_after(3), 5, SECONDS_PER_WRITE)
        clock[0] += 1000  # between the starts
        assert TimeSpent(file).seconds == number * 3 * SECONDS_PER_WRITE
    last = TimeSpent(file)
    work(last, clock, no_progress, 5, 2.0)
    assert last.finish() == 6 * SECONDS_PER_WRITE + 10
    assert not file.exists()
    assert TimeSpent(file).seconds == 0


def test_short_trainings_write_nothing(tmp_path: Path, clock: list[float]) -> None:
    spent = TimeSpent(tmp_path / "seconds")
    work(spent, clock, no_progress, 10, SECONDS_PER_WRITE / 11)
    assert not spent.file.exists()
    assert spent.finish() == pytest.approx(10 * SECONDS_PER_WRITE / 11)


def test_a_damaged_file_counts_nothing(tmp_path: Path, clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "seconds").write_bytes(b"damaged")
    assert TimeSpent(tmp_path / "seconds").seconds == 0
    assert "the time before it is lost" in caplog.text
