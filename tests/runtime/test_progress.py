"""Lines of progress and the time that they say is left, with a clock that the tests set."""

from __future__ import annotations

import logging
import re
import threading

import pytest

from detector.runtime.progress import ProgressBars, Task, duration, timer, timings
from tests.fakes import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO, "detector")
    clock = Clock()
    monkeypatch.setattr("detector.runtime.progress.monotonic", clock)
    return clock


def lines(progress: ProgressBars, caplog: pytest.LogCaptureFixture, clock: Clock, title: str, *seconds: float) -> str:
    """Run a loop whose items take these seconds, and return the last line that was logged."""
    caplog.clear()
    for item in progress(seconds, title):
        clock.now += item
    return str(caplog.messages[-1])


def test_a_line_after_ten_seconds_and_then_every_thirty(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    progress = ProgressBars([Task("features", 100, 1.0), Task("mining", 100, 2.0)])
    when: list[float] = []
    for n_items, title, seconds in ((100, "features", 1.0), (20, "mining", 2.0)):
        for _ in progress(range(n_items), title):
            when += [clock.now] * (len(caplog.messages) - len(when))
            clock.now += seconds
    # the next loop has no first ten seconds of its own
    assert when == [10, 40, 70, 100, 130]
    assert caplog.messages[0] == "features: 10 % (10 of 100), about 2 min left; all tasks: about 5 min left"


def test_a_long_item_is_logged_while_it_lasts(clock: Clock) -> None:
    logged = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: logged.set()  # type: ignore[method-assign]
    logging.getLogger("detector").addHandler(handler)
    try:
        with ProgressBars() as progress:
            for _ in progress(range(1), "mining"):
                clock.now += 11.0
                assert logged.wait(30)
    finally:
        logging.getLogger("detector").removeHandler(handler)


def test_items_pass_through_and_a_loop_that_is_left_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "detector")
    progress = ProgressBars()
    assert list(progress(iter("abc"), "letters")) == ["a", "b", "c"]
    loop = progress([1, 2, 3], "numbers")
    assert next(loop) == 1
    loop.close()
    assert list(progress([], "nothing")) == []
    assert [message[:11] for message in caplog.messages] == ["letters: 3 ", "numbers: 0 "]


def test_a_bar_on_a_terminal_and_no_lines(
    clock: Clock, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = ProgressBars([Task("mining", 2, 1.0), Task("boxes", 90, 1.0)], bars=True)
    for _ in progress([1, 2], "mining"):
        clock.now += 100.0
    assert caplog.messages == []
    assert re.search(r"mining: 100%.*2/2.*, all tasks: about \d+ min left", capsys.readouterr().err)


def test_a_loop_alone_goes_on_as_it_went_after_its_first_item(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    loop = ProgressBars()([50.0, 30.0, 30.0, 30.0, 30.0], "images")
    seen = []
    for seconds in loop:
        seen += caplog.messages
        caplog.clear()
        clock.now += seconds
    assert seen[:2] == ["images: 20 % (1 of 5), about 3 min left", "images: 40 % (2 of 5), about 2 min left"]
    assert seen[2:] == ["images: 60 % (3 of 5), about 60 s left", "images: 80 % (4 of 5), about 30 s left"]


def test_tasks_ahead_take_as_much_longer_as_those_before(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    progress = ProgressBars([Task("features", 12, 1.0), Task("mining", 20, 0.5), Task("boxes", 2, 3.0)])
    # before anything is measured, the plan is all there is: 1 + 10 + 6 seconds
    next(loop := progress(range(12), "features"))
    clock.now += 20
    progress._log_when_due()
    assert caplog.messages == ["features: 0 % (0 of 12), about 10 s left; all tasks: about 30 s left"]
    for _ in loop:
        clock.now += 6.0
    # the prior, and eleven seconds of the plan that took eleven times six
    pace = (5 + 66) / (5 + 11)
    clock.now += 100
    next(loop := progress(range(20), "mining"))
    caplog.clear()
    progress._log_when_due()
    left = duration(20 * 0.5 * pace), duration(20 * 0.5 * pace + 6 * pace)
    assert caplog.messages == [f"mining: 0 % (0 of 20), {left[0]} left; all tasks: {left[1]} left"]


def test_skipped_tasks_and_unplanned_loops_do_no_harm(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    progress = ProgressBars([Task("features", 9, 1.0), Task("positives", 9, 1.0), Task("mining", 9, 1.0)])
    for _ in progress(iter(range(3)), "scaling"):
        clock.now += 31.0
    assert caplog.messages[-1] == "scaling: 3 done"
    # resumed: fewer images than planned, and no features
    assert "; all tasks: " in lines(progress, caplog, clock, "positives", *[31.0] * 4)
    assert "all tasks" not in lines(progress, caplog, clock, "mining", *[31.0] * 4)  # it is the last one


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "about 10 s"), (44, "about 40 s"), (89, "about 90 s"), (90, "about 2 min"), (480, "about 8 min")),
        *((5399, "about 90 min"), (5400, "about 1.5 h")),
    ],
)
def test_durations_are_no_finer_than_they_are_known(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_timers_add_up_by_name() -> None:
    with timer("outside"), timings() as times:
        for name in ("a", "b", "a"):
            with timer(name):
                pass
    assert list(times) == ["a", "b"] and min(times.values()) >= 0
