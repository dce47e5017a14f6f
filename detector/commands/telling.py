"""How commands tell what they do: how much of it, bars on terminals, and lines elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detector.runtime.progress import Estimate

FIRST_SECONDS = 10.0
SECONDS = 30.0

_log = logging.getLogger(__name__)


def printable(name: str | Path) -> str:
    """A path or name as a line of results may hold it: tabs, line ends and bytes that are no UTF-8 are escaped."""
    escaped = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in escaped)


class Verbosity(logging.Filter):
    """The least level of log records that the terminal shows; a log file takes all of them."""

    level = logging.INFO

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        return record.levelno >= self.level

    @property
    def quiet(self) -> bool:
        """Whether only errors are told."""
        return self.level > logging.WARNING


verbosity = Verbosity()
"""Of this process: `-q` and `-v` of every command set it."""


class Console(logging.Handler):
    """Shows log records on stderr, above bars. What is told in passing waits until the work begins: a mistake that ends
    a command before costs one line."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        self.addFilter(verbosity)
        self._held: list[logging.LogRecord] | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """For the block of a command, which begins its work, or ends well, or fails."""
        self._held = []
        logging.getLogger().addHandler(self)
        try:
            yield
            self.begin()
        finally:
            logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Show or hold back a record."""
        if self._held is not None and record.levelno < logging.WARNING:
            self._held.append(record)
        else:
            tqdm.write("\n".join(map(printable, self.format(record).split("\n"))), file=sys.stderr)

    def begin(self) -> None:
        """Show what was held back, and from now on hold back nothing."""
        held, self._held = self._held, None
        for record in held or ():
            self.emit(record)


console = Console()
"""Of this process."""


class Telling:
    """`Progress` for loops one after another: a bar each on a terminal; elsewhere a line after ten seconds, and then
    every thirty, even where a single item takes longer.

    As a context manager it also tells while an item is under way. write: takes a line. bars: draw bars instead.
    """

    def __init__(
        self,
        estimate: Estimate | None = None,
        write: Callable[[str], None] = _log.info,
        bars: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._estimate = estimate or Estimate(clock=clock)
        self._write, self._clock = write, clock
        self._bars = sys.stderr.isatty() and not verbosity.quiet if bars is None else bars
        self._due = clock() + FIRST_SECONDS
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __call__(self, items: Iterable[Any], title: str) -> Generator[Any, None, None]:
        """Pass items on."""
        console.begin()
        n_items = len(items) if isinstance(items, Sized) else None
        with self._lock:
            self._estimate.begin(title, n_items)
        bar = tqdm(items, desc=title, file=sys.stderr, disable=not self._bars or n_items == 0)
        try:
            for each in bar:
                yield each
                with self._lock:
                    self._estimate.advance()
                    left = str(self._estimate).partition("; ")[2]
                bar.set_postfix_str(left, refresh=False)
                self.tell()
        finally:
            with self._lock:
                done, seconds = self._estimate.end()
            if n_items != 0:
                _log.debug("%s: %d in %.1f s", title, done, seconds)

    def tell(self) -> None:
        """Write a line if one is due."""
        with self._lock:
            if not self._bars and self._estimate.runs and self._clock() >= self._due:
                self._write(str(self._estimate))
                self._due = self._clock() + SECONDS

    def __enter__(self) -> Telling:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            self.tell()
