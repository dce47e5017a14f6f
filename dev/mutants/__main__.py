"""Mutate the library, one change at a time, and list the mutations that no test notices (`make mutants`).

Mutations are made in lines of the core packages that changed since a git revision, or in all. Each is tried with the
tests that import its module, in a fork of one process (runner.py), until a test fails. Outcomes are stored: a killed
run is resumed, and repeated only where a module or its tests changed. accepted.yaml lists accepted survivors with their
reasons.

Existing tools do not fit: mutmut 3 skips decorated functions (compiled kernels, properties) and all module-level code,
and cosmic-ray starts Python for each mutation, which takes seconds here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import yaml

from detector.runtime.files import write_json
from dev.mutants.mutations import Mutation, find_mutations, is_valid
from dev.mutants.runner import SURVIVED, Baseline, Outcome, chosen_tests, measure, try_mutation, warmup_steps
from dev.mutants.targets import PACKAGES, ROOT, changed_lines, files_for, modules_of

ACCEPTED = Path(__file__).with_name("accepted.yaml")
GOAL = 0.9
_MIN_MUTATIONS = 6  # from which on recording the lines of tests saves time
_UNKNOWN_SECONDS = 60.0


class Candidate(NamedTuple):
    """A mutation of a module, whose path is relative to the repository."""

    module: Path
    mutation: Mutation
    source: str

    @property
    def change(self) -> str:
        return self.mutation.change(self.source)

    def __str__(self) -> str:
        return f"{self.module}:{self.mutation.line}: {self.change}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    candidates = find_candidates(options.packages or PACKAGES, None if options.all else options.since)
    if options.sample:
        chosen = random.Random(options.seed).sample(range(len(candidates)), min(options.sample, len(candidates)))
        candidates = [candidates[place] for place in sorted(chosen)]
    candidates = [each for each in candidates if is_valid(each.mutation, each.source)]
    if not candidates:
        print(f"no line of these packages changed since {options.since}; --all takes all of them")
        return 0
    return try_all(candidates, options.results, options.jobs)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dev.mutants", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "packages", nargs="*", help=f"packages or modules, such as features/mapping (default: {', '.join(PACKAGES)})"
    )
    parser.add_argument(
        "--since", default="main", metavar="REVISION", help="lines changed since (default: %(default)s)"
    )
    parser.add_argument("--all", action="store_true", help="all lines")
    parser.add_argument("--sample", type=int, metavar="N", help="N random mutations")
    parser.add_argument("--seed", type=int, default=0, help="of --sample (default: %(default)s)")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="mutations at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--results", type=Path, default=ROOT / ".mutants", metavar="FOLDER", help="folder of stored outcomes"
    )
    return parser


def find_candidates(packages: Iterable[str], since: str | None) -> list[Candidate]:
    """Return the mutations of packages, in lines changed since a revision, or in all."""
    changed = None if since is None else changed_lines(since)
    found = []
    for module in modules_of(packages):
        source = (ROOT / module).read_text("utf-8")
        lines = None if changed is None else changed.get(module, set())
        found += [
            Candidate(module, mutation, source)
            for mutation in find_mutations(source)
            if lines is None or mutation.line in lines
        ]
    return found


def try_all(candidates: Sequence[Candidate], folder: Path, jobs: int) -> int:
    """Try all mutations and print those that survive; return the exit code, 0 if enough were noticed."""
    accepted = read_accepted()
    killed, surviving, start = 0, 0, time.monotonic()
    tried = [each for each in candidates if (str(each.module), each.change) not in accepted]
    known = _Known(folder, tried)
    warmup_steps()
    pool = ThreadPoolExecutor(jobs)
    for number, (each, outcome) in enumerate(zip(tried, pool.map(known.outcome, tried), strict=True), 1):
        if outcome.result == SURVIVED:
            surviving += 1
            print(each, flush=True)
        else:
            killed += 1
        if sys.stderr.isatty():
            spent = time.monotonic() - start
            print(f"\r{number} of {len(tried)}, {surviving} survived, {spent:.0f} s", end="\r", file=sys.stderr)
    share = killed / max(1, killed + surviving)
    print(
        f"{killed} of {killed + surviving} mutations were noticed ({share:.1%}; the goal is {GOAL:.0%}), "
        f"{len(candidates) - len(tried)} more are accepted, {time.monotonic() - start:.0f} s"
    )
    return 0 if share >= GOAL else 1


def read_accepted() -> dict[tuple[str, str], str]:
    """Return the reason for each accepted mutation, by its module and change."""
    rows = yaml.safe_load(ACCEPTED.read_text("utf-8")) or []
    return {(row["module"], change): row["because"] for row in rows for change in row["changes"]}


class _Known:
    """Outcomes and baselines on disk, each under a digest of the source and tests that it came from."""

    def __init__(self, folder: Path, candidates: Sequence[Candidate]) -> None:
        self.uses = Counter(file for each in candidates for file in files_for(each.module))
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.file = folder, folder / "outcomes.jsonl"
        lines = self.file.read_text("utf-8").splitlines() if self.file.exists() else []
        self.outcomes: dict[str, Any] = dict(json.loads(line) for line in lines)
        self.library = _digest(*((ROOT / path).read_text("utf-8") for path in modules_of([""])))
        self.lock = Lock()

    def outcome(self, each: Candidate) -> Outcome:
        """Return the outcome of a mutation, from disk or by trying it."""
        files = files_for(each.module)
        sources = {file: (ROOT / file).read_text("utf-8") for file in files}
        mutation = each.mutation
        key = f"{each.module}:{mutation.start}:{mutation.end}:{mutation.new} {_digest(each.source, *sources.values())}"
        if found := self.outcomes.get(key):
            return Outcome(*found)
        baselines = {file: self._baseline(file, source) for file, source in sources.items()}
        tests = chosen_tests(baselines, each.module, mutation.lines)
        seconds = sum(sum(one.seconds.values()) if one else _UNKNOWN_SECONDS for one in baselines.values())
        outcome = try_mutation(each.module, mutation.apply(each.source), tests, seconds)
        with self.lock, self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, outcome]) + "\n")
        return outcome

    def _baseline(self, test_file: str, source: str) -> Baseline | None:
        """Measure a test file where it saves time: that takes as long as some mutations do."""
        path = self.folder / f"{_digest(self.library, test_file, source)}.json"
        with self.lock:
            if not path.exists():
                if self.uses[test_file] < _MIN_MUTATIONS:
                    return None
                write_json(path, measure(test_file))
            return Baseline(*json.loads(path.read_text("utf-8")))


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
