"""Record the lines of the library that each test runs, and its time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest


class LineRecorder:
    """A pytest plugin that records seconds of tests, and the lines of a folder that each runs, fixtures included."""

    def __init__(self, folder: Path) -> None:
        self.folder = f"{folder}/"
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, set[tuple[str, int]]] = {}
        self._of_fixtures: dict[str, set[tuple[str, int]]] = {}
        self._now: set[tuple[str, int]] = set()

    def __enter__(self) -> None:
        threading.settrace(self._call)
        sys.settrace(self._call)

    def __exit__(self, *_: object) -> None:
        threading.settrace(None)
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_filename.startswith(self.folder) else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        self._now.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        before, self._now = self._now, self._of_fixtures.setdefault(fixturedef.argname, set())
        result = yield
        self._now = before
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Iterator[None]:
        self._now = self.lines.setdefault(item.nodeid, set())
        start = time.perf_counter()
        result = yield
        self.seconds[item.nodeid] = time.perf_counter() - start
        for name in item.fixturenames:
            self.lines[item.nodeid] |= self._of_fixtures.get(name, set())
        return result
