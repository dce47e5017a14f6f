"""How much is left: hand-computed with a clock that the tests set."""

from __future__ import annotations

import pytest

from detector.runtime.progress import Estimate, Stage, about
from tests.fakes import Clock


def run_items(estimate: Estimate, clock: Clock, count: int, seconds: float) -> None:
    for _ in range(count):
        clock.now += seconds
        estimate.advance()


def test_a_loop_alone_goes_on_as_it_went_after_its_first_item() -> None:
    clock = Clock()
    estimate = Estimate(clock=clock)
    estimate.begin("images", 5)
    assert estimate.left() is None and str(estimate) == "images: 0 % (0 of 5)"
    run_items(estimate, clock, 1, 50.0)
    assert estimate.left() == 4 * 50
    run_items(estimate, clock, 1, 30.0)
    assert estimate.left() == 3 * 30
    clock.now += 10  # of the third one
    assert estimate.left() == 80
    clock.now += 1000  # which takes longer than the others, but leaves them to be done
    assert estimate.left() == 2 * 30
    assert estimate.left_in_all() is None
    assert str(estimate) == "images: 40 % (2 of 5), about 60 s left"
    assert estimate.end() == (2, 80)


def test_stages_ahead_take_as_much_longer_as_those_before() -> None:
    clock = Clock()
    estimate = Estimate([Stage("features", 12, 1.0), Stage("mining", 20, 0.5), Stage("boxes", 2, 3.0)], clock)
    estimate.begin("features", 12)
    # before anything is measured, the plan is all there is
    assert (estimate.left(), estimate.left_in_all()) == (12, 12 + 10 + 6)
    run_items(estimate, clock, 1, 9.0)
    assert (estimate.left(), estimate.left_in_all()) == (11 * (9 + 1) / 2, 55 + 16)
    run_items(estimate, clock, 5, 3.0)
    # five seconds of the plan, and five that took fifteen
    pace = (5 + 15) / (5 + 5)
    assert estimate.left() == pytest.approx(6 * (15 + pace * 1) / 6)
    assert estimate.left_in_all() == pytest.approx(17 + pace * (10 + 6))
    run_items(estimate, clock, 6, 2.0)
    estimate.end()
    estimate.begin("mining", 20)
    pace = (5 + 15 + 12) / (5 + 11)
    assert pace == 2 and estimate.left() == pytest.approx(20.0)
    assert str(estimate) == "mining: 0 % (0 of 20), about 20 s left; all stages: about 30 s left"


def test_a_long_first_item_counts_as_it_lasts() -> None:
    clock = Clock()
    estimate = Estimate([Stage("features", 8, 1.0)], clock)
    estimate.begin("features", 8)
    clock.now += 0.5
    assert estimate.left() == 7.5
    clock.now += 39.5
    seconds = (40 + 1) / 2
    assert estimate.left() == pytest.approx(7 * seconds)


def test_skipped_stages_and_other_loops_do_no_harm() -> None:
    clock = Clock()
    estimate = Estimate([Stage("features", 9, 1.0), Stage("positives", 9, 1.0), Stage("mining", 9, 1.0)], clock)
    estimate.begin("scaling", None)
    run_items(estimate, clock, 3, 9.0)
    assert str(estimate) == "scaling: 3 done"
    estimate.end()
    estimate.begin("positives", 4)  # gone on with: fewer than planned, and no features
    assert (estimate.left(), estimate.left_in_all()) == (4, 4 + 9)
    run_items(estimate, clock, 4, 1.0)
    estimate.end()
    estimate.begin("mining", 9)
    assert estimate.left_in_all() is None  # it is the last one


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "about 10 s"), (44, "about 40 s"), (89, "about 90 s"), (90, "about 2 min"), (480, "about 8 min")),
        *((5399, "about 90 min"), (5400, "about 1.5 h")),
    ],
)
def test_durations_are_no_finer_than_they_are_known(seconds: float, words: str) -> None:
    assert about(seconds) == words
