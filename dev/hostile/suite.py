"""All cases of a seed, and the table of what came of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from dev.hostile.annotations import annotation_cases
from dev.hostile.case import Case
from dev.hostile.images import image_cases
from dev.hostile.models import model_cases
from dev.hostile.places import place_cases
from dev.hostile.running import Outcome, run_all

ROOMS = (image_cases, annotation_cases, model_cases, place_cases)


def all_cases(seed: int, times: int, kind: str = "") -> list[Case]:
    """The cases of every room, ``times`` as many as a run of the tests has; the same ones for the same numbers.

    Of kinds that begin with ``kind`` alone.
    """
    cases = [case for number, room in enumerate(ROOMS) for case in room(np.random.default_rng([seed, number]), times)]
    return [case for case in cases if case.kind.startswith(kind)]


def run_suite(seed: int = 0, times: int = 1, processes: int | None = None, kind: str = "") -> list[Outcome]:
    """Run all of them."""
    return run_all(all_cases, (seed, times, kind), processes or min(4, len(os.sched_getaffinity(0))))


def table(outcomes: Sequence[Outcome]) -> str:
    """A row a kind, in Markdown: how many cases, how they ended, and the most that one took."""
    lines = [
        "| kind | cases | exit 0 | exit 2 | ended otherwise | faults | longest | most memory |",
        "| --- |" + " ---: |" * 7,
    ]
    for kind in [*dict.fromkeys(each.kind for each in outcomes), ""]:
        rows = [each for each in outcomes if kind in ("", each.kind)]
        codes = [each.code for each in rows]
        ended = [codes.count(0), codes.count(2), len(codes) - codes.count(0) - codes.count(2)]
        most = f"{max(each.seconds for each in rows):.1f} s", f"{max(each.n_bytes for each in rows) / 1e9:.1f} GB"
        cells = [kind or "all", len(rows), *ended, sum(bool(each.faults) for each in rows), *most]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
