"""Test one mutation in a process of its own, forked from one that has imported all slow packages.

Library and tests are imported after the fork, with the mutated module in place of the one on disk, so that constants,
defaults and decorated functions are covered, too. Only tests that run the changed line can notice.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import json
import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import pytest

from dev.mutants.line_recorder import LineRecorder
from dev.mutants.targets import ROOT, name_of, recompiled

_SLOW_TO_IMPORT = (
    "torch",
    "numba",
    "cv2",
    "scipy.io",
    "sklearn.svm",
    "skimage.data",
    "pydantic",
    "yaml",
    "PIL.Image",
    "safetensors.numpy",
    "hypothesis",
    "hypothesis.extra.numpy",
    "pycocotools.cocoeval",
    "defusedxml.ElementTree",
    "tqdm",
    "threadpoolctl",
)
_MEMORY = 32 << 30  # bytes of virtual memory, mostly unused: a mutation may request everything
KILLED, SURVIVED, TOO_LONG = "killed", "survived", "too long"


class Baseline(NamedTuple):
    """Tests without a mutation: seconds by test id, and the lines of the library that each runs, by file."""

    seconds: dict[str, float]
    lines: dict[str, dict[str, list[int]]]


class Outcome(NamedTuple):
    """The result of a mutation, the test that noticed it, and the seconds that it took."""

    result: str
    test: str
    seconds: float


def chosen_tests(baselines: Mapping[str, Baseline | None], module: Path, lines: range) -> list[str]:
    """Return the tests that run one of the lines, fastest first; all if none is known to, as for compiled code.

    A test file without a baseline comes as a whole, at the end.
    """
    known = {file: baseline for file, baseline in baselines.items() if baseline is not None}
    seconds = {test: each for baseline in known.values() for test, each in baseline.seconds.items()}
    wanted = set(lines)
    found = [
        test
        for baseline in known.values()
        for test, files in baseline.lines.items()
        if not wanted.isdisjoint(files.get(str(module), ()))
    ]
    return sorted(found or seconds, key=seconds.__getitem__) + [file for file in baselines if file not in known]


def warmup_steps() -> None:
    """Import what children need, except the library."""
    for name in _SLOW_TO_IMPORT:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # what numba sets up for its first function takes a second
    import numba

    numba.njit(lambda x: x + 1)(1)


def measure(test_file: str) -> Baseline:
    """Run a test file with the library as it is. Raises ValueError where a test fails."""
    recorder = LineRecorder(ROOT / "detector")

    def work(report: Callable[[Any], None]) -> None:
        with recorder:
            code = pytest.main([*_OPTIONS, test_file], plugins=[_Settings(), recorder])
        report([int(code), recorder.seconds, {test: _by_file(lines) for test, lines in recorder.lines.items()}])

    result, _ = _in_child(work, limit=3600)
    # there may be tests of `make test-all` alone
    if result is None or result[0] not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise ValueError(f"{test_file} fails without any mutation")
    return Baseline(result[1], result[2])


def _by_file(lines: set[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for path, line in sorted(lines):
        found.setdefault(str(Path(path).relative_to(ROOT)), []).append(line)
    return found


def try_mutation(module: Path, source: str, tests: list[str], seconds: float) -> Outcome:
    """Run tests, which take some seconds, until one fails, with ``source`` in the place of the module on disk."""
    start = time.monotonic()

    def work(report: Callable[[Any], None]) -> None:
        _replace_source(module, source)
        first = _First(tests)
        code = pytest.main([*_OPTIONS, "--exitfirst", *sorted({test.split("::")[0] for test in tests})], [first])
        report([int(code), first.failed])

    result, in_time = _in_child(work, limit=60 + 4 * seconds)
    took = round(time.monotonic() - start, 2)
    if not in_time:
        return Outcome(TOO_LONG, "", took)
    # a child that ended without a word was ended by the mutation, such as by what it does to memory
    code, test = result or [1, "the process ended"]
    return Outcome(SURVIVED if code == 0 else KILLED, test, took)


_OPTIONS = ("-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", f"--rootdir={ROOT}")


def _in_child(work: Callable[[Callable[[Any], None]], None], limit: float) -> tuple[Any, bool]:
    """Return what ``work`` reports from a process of its own, or None, and whether it took less than ``limit``."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer"
        child = os.fork()
        if child == 0:
            try:
                os.setsid()
                resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
                silence = os.open(os.devnull, os.O_RDWR)
                for stream in range(3):
                    os.dup2(silence, stream)
                os.chdir(ROOT)
                work(lambda result: _write(answer, result))
            finally:
                os._exit(0)
        alarm = threading.Timer(limit, _kill, [child])
        alarm.start()
        os.waitpid(child, 0)
        in_time = alarm.is_alive()
        alarm.cancel()
        # what tests started, and left behind
        _kill(child)
        return (json.loads(answer.read_text("utf-8")) if answer.exists() else None), in_time


def _write(path: Path, result: object) -> None:
    path.write_text(json.dumps(result), encoding="utf-8")


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _replace_source(module: Path, source: str) -> None:
    name, path = name_of(module), str(ROOT / module)
    as_it_is = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, fullname: str) -> CodeType | None:
        if fullname == name:
            return compile(source, path, "exec", dont_inherit=True)
        return as_it_is(self, fullname)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
    if stale := recompiled(module):
        import numba

        njit = numba.njit

        def without_cache(*arguments: Any, cache: bool = False, **settings: Any) -> Any:
            return lambda function: njit(cache=cache and function.__module__ not in stale, **settings)(function)

        numba.njit = without_cache


class _Settings:
    """Configure Hypothesis to be fast: only whether a test fails counts."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", deadline=None, database=None, phases=phases, derandomize=True)
        settings.load_profile("mutants")


class _First(_Settings):
    """Run tests in the given order, and record the first that fails."""

    def __init__(self, tests: list[str]) -> None:
        self.places = {test: place for place, test in enumerate(tests)}
        self.failed = "at import"

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        places = {item.nodeid: self._place(item.nodeid) for item in items}
        kept = [item for item in items if places[item.nodeid] is not None]
        items[:] = sorted(kept, key=lambda item: places[item.nodeid] or 0)

    def _place(self, test: str) -> int | None:
        return self.places.get(test, self.places.get(test.partition("::")[0]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid
