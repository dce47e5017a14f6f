"""Lines of progress, and what `-q` and `-v` leave of them."""

from __future__ import annotations

import logging
import threading

import pytest

from detector.cli.console import Parser, Telling, verbosity
from detector.runtime.progress import Estimate, Stage
from tests.fakes import Clock


def test_a_line_after_ten_seconds_and_then_every_thirty() -> None:
    clock, lines = Clock(), list[tuple[float, str]]()
    plan = [Stage("features", 100, 1.0), Stage("mining", 100, 2.0)]
    telling = Telling(Estimate(plan, clock), lambda line: lines.append((clock.now, line)), bars=False, clock=clock)
    for _ in telling(range(100), "features"):
        clock.now += 1.0
    assert [when for when, _ in lines] == [10, 40, 70, 100]
    assert lines[0][1] == "features: 10 % (10 of 100), about 2 min left; all stages: about 5 min left"
    # the next loop has no first ten seconds of its own
    for _ in telling(range(20), "mining"):
        clock.now += 2.0
    assert [when for when, _ in lines] == [10, 40, 70, 100, 130]


def test_a_long_item_is_told_while_it_lasts() -> None:
    clock, told = Clock(), threading.Event()
    with Telling(write=lambda line: told.set(), bars=False, clock=clock) as telling:
        for _ in telling(range(1), "mining"):
            clock.now += 11.0
            assert told.wait(30)


def test_items_pass_through_and_a_loop_that_is_left_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "detector")
    estimate = Estimate()
    telling = Telling(estimate, bars=False)
    assert list(telling(iter("abc"), "letters")) == ["a", "b", "c"]
    loop = telling([1, 2, 3], "numbers")
    assert next(loop) == 1 and estimate.runs
    loop.close()
    assert not estimate.runs
    assert [record.getMessage()[:11] for record in caplog.records] == ["letters: 3 ", "numbers: 0 "]


def test_every_command_can_be_quiet_or_verbose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbosity, "level", logging.INFO)
    record = logging.LogRecord("detector", logging.WARNING, "", 0, "an image is missing", None, None)
    for word, shown in ((None, True), ("-q", False), ("-v", True), ("--quiet", False)):
        options = Parser(prog="tool").parse_args([word] if word else [])
        assert vars(options) == {}
        assert verbosity.filter(record) is shown
    record.levelno = logging.ERROR
    assert verbosity.filter(record) and verbosity.quiet
