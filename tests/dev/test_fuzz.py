"""Fuzzing: all seeds and former findings are read or refused in order, and each target is fuzzed for a moment."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dev.fuzz.__main__ import SEEDS, Outcome, fuzz, table
from dev.fuzz.targets import TARGETS

SECONDS = 6


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_are_read_or_refused_in_a_line(target: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    run = TARGETS[target](tmp_path)
    seeds = sorted((SEEDS / target).iterdir())
    assert len(seeds) >= 3
    for seed in seeds:
        run(seed.read_bytes())
    run(b"")


@pytest.mark.all
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_fails_in_some_seconds(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    found = fuzz(target, SECONDS, tmp_path)
    assert not found.failing, found.output[-3000:]
    assert found.runs > 100 and found.kept > 0


def test_outcomes_are_a_table(tmp_path: Path) -> None:
    lines = table([Outcome("voc", 12345, 678, 9, [tmp_path], "")], 60).splitlines()
    assert lines[-1] == "| voc | 60 | 12,345 | 678 | 9 | 1 |"
