"""Fuzz the readers, and print a table: python -m dev.fuzz [--time SECONDS] [TARGET ...]

Inputs that reach new code are kept in .fuzz/TARGET/corpus, and those that a reader fails at in .fuzz/TARGET; add these,
made small, to tests/fuzz/TARGET.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dev.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
SEEDS = ROOT / "tests" / "fuzz"
_OPTIONS = ("-timeout=10", "-rss_limit_mb=3000", "-max_len=4096", "-print_final_stats=1", "-verbosity=1")


class Outcome(NamedTuple):
    """Outcome of fuzzing a target: inputs tried, of code reached, inputs kept, and files that a reader fails at."""

    target: str
    runs: int
    edges: int
    kept: int
    failing: list[Path]
    output: str


def fuzz(target: str, seconds: int, folder: Path) -> Outcome:
    """Fuzz a target for some seconds, starting from its seeds and the inputs kept in ``folder``."""
    corpus = folder / target / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    before = set((folder / target).iterdir())
    with tempfile.TemporaryDirectory() as work:
        options = (f"-max_total_time={seconds}", f"-artifact_prefix={folder / target}/", *_OPTIONS)
        words = (sys.executable, "-m", "dev.fuzz.worker", target, work, *options, str(corpus), str(SEEDS / target))
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    output = done.stdout + done.stderr
    failing = sorted({*(folder / target).iterdir()} - before)
    if not failing and done.returncode:
        raise RuntimeError(f"{target}: the fuzzer ended with {done.returncode}\n{output[-2000:]}")
    runs = re.findall(r"stat::number_of_executed_units:\s*(\d+)", output)
    edges = re.findall(r"cov: (\d+)", output)
    kept = sum(1 for _ in corpus.iterdir())
    return Outcome(target, int(runs[-1]) if runs else 0, int(edges[-1]) if edges else 0, kept, failing, output)


def table(outcomes: Sequence[Outcome], seconds: int) -> str:
    """Return a Markdown table of outcomes."""
    columns = ["target", "s", "inputs", "edges reached", "inputs kept", "failures"]
    lines = [f"| {' | '.join(columns)} |", f"| --- |{' ---: |' * (len(columns) - 1)}"]
    for each in outcomes:
        numbers = (seconds, each.runs, each.edges, each.kept, len(each.failing))
        lines.append(f"| {each.target} | {' | '.join(f'{number:,}' for number in numbers)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 1 where a reader fails at an input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)} (default: all)")
    parser.add_argument("--time", type=int, default=60, metavar="SECONDS", help="seconds per target (default: 60)")
    parser.add_argument("--folder", type=Path, default=ROOT / ".fuzz", help="of the inputs kept (default: .fuzz)")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    outcomes = []
    for target in options.targets or TARGETS:
        outcomes.append(fuzz(target, options.time, options.folder.resolve()))
        if outcomes[-1].failing:
            print(f"{target}: {outcomes[-1].failing[0]}\n{outcomes[-1].output[-3000:]}", file=sys.stderr)
    print(table(outcomes, options.time))
    return int(any(each.failing for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
