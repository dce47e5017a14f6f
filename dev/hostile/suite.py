"""Make and run all cases of a seed, and print a table of their outcomes."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from dev.hostile.annotations import annotation_cases
from dev.hostile.case import Case
from dev.hostile.images import image_cases
from dev.hostile.models import model_cases
from dev.hostile.outputs import output_cases
from dev.hostile.runner import Outcome, run_all

MAKERS = (image_cases, annotation_cases, model_cases, output_cases)


def all_cases(seed: int, times: int, kind: str = "") -> list[Case]:
    """Return ``times`` as many cases as the tests run, always the same ones, of the kinds that begin with ``kind``."""
    cases = [case for number, make in enumerate(MAKERS) for case in make(np.random.default_rng([seed, number]), times)]
    return [case for case in cases if case.kind.startswith(kind)]


def run_suite(seed: int = 0, times: int = 1, processes: int | None = None, kind: str = "") -> list[Outcome]:
    """Run all cases, and return their outcomes in order."""
    return run_all(all_cases, (seed, times, kind), processes or min(4, len(os.sched_getaffinity(0))))


def table(outcomes: Sequence[Outcome]) -> str:
    """Return a Markdown table with a row per kind: cases, how they ended, maximum time and memory."""
    lines = [
        "| kind | cases | exit 0 | exit 2 | other ends | faults | max. time | max. memory |",
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
