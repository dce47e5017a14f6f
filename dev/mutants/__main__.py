"""Put faults into the library, one at a time, and list those that no test notices (`make mutants`).

Faults are put into lines of the core rooms that changed since a git revision, or into all. Each is tried with the
tests that import its module, in a fork of one process (runner.py), until a test fails. What was found is kept: killed
and started again, the work goes on, and is done again where a module or its tests changed. Survivors that are accepted
stand in accepted.yaml, each with its reason.

Mutation testers that are well kept do not fit: mutmut 3 leaves decorated functions (the compiled kernels, properties)
and all module-level code alone, and cosmic-ray starts Python again for each fault, which takes seconds here.
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
from dev.mutants.choice import ROOMS, ROOT, changed_lines, files_for, modules_of
from dev.mutants.faults import Fault, find_faults, is_sound
from dev.mutants.runner import SURVIVED, Baseline, Outcome, chosen_tests, measure, try_fault, warmup_steps

ACCEPTED = Path(__file__).with_name("accepted.yaml")
GOAL = 0.9
_WORTH = 6  # faults, from which on the lines that tests run are looked at
_UNKNOWN = 60.0  # seconds


class Candidate(NamedTuple):
    """A fault and the module that it is put into, relative to the repository."""

    module: Path
    fault: Fault
    source: str

    @property
    def change(self) -> str:
        return self.fault.change(self.source)

    def __str__(self) -> str:
        return f"{self.module}:{self.fault.line}: {self.change}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    candidates = find_candidates(options.rooms or ROOMS, None if options.all else options.since)
    if options.sample:
        chosen = random.Random(options.seed).sample(range(len(candidates)), min(options.sample, len(candidates)))
        candidates = [candidates[place] for place in sorted(chosen)]
    candidates = [each for each in candidates if is_sound(each.fault, each.source)]
    if not candidates:
        print(f"no line of these rooms changed since {options.since}; --all takes all of them")
        return 0
    return try_all(candidates, options.results, options.jobs)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dev.mutants", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "rooms", nargs="*", help=f"rooms or modules, such as features/mapping (default: {', '.join(ROOMS)})"
    )
    parser.add_argument(
        "--since", default="main", metavar="REVISION", help="lines changed since (default: %(default)s)"
    )
    parser.add_argument("--all", action="store_true", help="all lines")
    parser.add_argument("--sample", type=int, metavar="N", help="N faults by chance")
    parser.add_argument("--seed", type=int, default=0, help="of --sample (default: %(default)s)")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="faults at once (default: %(default)s)"
    )
    parser.add_argument(
        "--results", type=Path, default=ROOT / ".mutants", metavar="FOLDER", help="what is known already"
    )
    return parser


def find_candidates(rooms: Iterable[str], since: str | None) -> list[Candidate]:
    """The faults of rooms, on lines changed since a revision, or on all."""
    changed = None if since is None else changed_lines(since)
    found = []
    for module in modules_of(rooms):
        source = (ROOT / module).read_text("utf-8")
        lines = None if changed is None else changed.get(module, set())
        found += [
            Candidate(module, fault, source) for fault in find_faults(source) if lines is None or fault.line in lines
        ]
    return found


def try_all(candidates: Sequence[Candidate], folder: Path, jobs: int) -> int:
    """Try all faults, tell of each that survives, and whether enough did not; the exit status."""
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
        f"{killed} of {killed + surviving} faults were noticed ({share:.1%}; the goal is {GOAL:.0%}), "
        f"{len(candidates) - len(tried)} more are accepted, {time.monotonic() - start:.0f} s"
    )
    return 0 if share >= GOAL else 1


def read_accepted() -> dict[tuple[str, str], str]:
    """The reason for each fault that may survive, by its module and change."""
    rows = yaml.safe_load(ACCEPTED.read_text("utf-8")) or []
    return {(row["module"], change): row["because"] for row in rows for change in row["changes"]}


class _Known:
    """Outcomes and baselines on disk, each named by all of the source and the tests that it came from."""

    def __init__(self, folder: Path, candidates: Sequence[Candidate]) -> None:
        self.uses = Counter(file for each in candidates for file in files_for(each.module))
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.file = folder, folder / "outcomes.jsonl"
        lines = self.file.read_text("utf-8").splitlines() if self.file.exists() else []
        self.outcomes: dict[str, Any] = dict(json.loads(line) for line in lines)
        self.library = _digest(*((ROOT / path).read_text("utf-8") for path in modules_of([""])))
        self.lock = Lock()

    def outcome(self, each: Candidate) -> Outcome:
        """What becomes of a fault, from disk or by trying it."""
        files = files_for(each.module)
        sources = {file: (ROOT / file).read_text("utf-8") for file in files}
        fault = each.fault
        key = f"{each.module}:{fault.start}:{fault.end}:{fault.new} {_digest(each.source, *sources.values())}"
        if found := self.outcomes.get(key):
            return Outcome(*found)
        baselines = {file: self._baseline(file, source) for file, source in sources.items()}
        tests = chosen_tests(baselines, each.module, fault.lines)
        seconds = sum(sum(one.seconds.values()) if one else _UNKNOWN for one in baselines.values())
        outcome = try_fault(each.module, fault.put_into(each.source), tests, seconds)
        with self.lock, self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, outcome]) + "\n")
        return outcome

    def _baseline(self, test_file: str, source: str) -> Baseline | None:
        """Measured where it is worth it: it takes as long as some faults do."""
        path = self.folder / f"{_digest(self.library, test_file, source)}.json"
        with self.lock:
            if not path.exists():
                if self.uses[test_file] < _WORTH:
                    return None
                write_json(path, measure(test_file))
            return Baseline(*json.loads(path.read_text("utf-8")))


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
