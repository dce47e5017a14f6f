"""Standard streams that are closed or full, or that nobody reads any more; and being told to end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOBase
from threading import current_thread, main_thread
from types import FrameType
from typing import TextIO


def open_streams() -> None:
    """Let standard streams that are closed lead nowhere: else, files that are opened later would take their places."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def keep_errors() -> None:
    """Let `sys.stderr` have a descriptor of its own, which leads to the same place.

    Descriptor 2 is silenced while an image is decoded (see `decoding.silenced_stderr`), and would swallow what another
    thread says meanwhile.
    """
    with suppress(OSError, ValueError):  # a stream that is no file
        if sys.stderr.fileno() == 2:
            sys.stderr.flush()
            encoding, errors = sys.stderr.encoding, sys.stderr.errors
            sys.stderr = open(os.dup(2), "w", buffering=1, encoding=encoding, errors=errors)  # noqa: SIM115, PTH123


def flush_output() -> None:
    """Write what standard output still holds; OSError, naming it, where it takes no more."""
    with _named():
        sys.stdout.flush()


@contextmanager
def _named() -> Iterator[None]:
    """Let errors of writing name standard output, but for that of a reader who went away."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


def forget_output() -> None:
    """Let standard output, and what it still holds, lead nowhere; else Python would try again at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class Lines(TextIOBase):
    """Lines for standard output. Where ``needed`` says that other results wait, a reader that went away costs them
    alone; else it raises BrokenPipeError, as in `detect.py ... | head`.
    """

    def __init__(self, stream: TextIO, needed: bool) -> None:
        self._stream, self._needed = stream, needed

    def write(self, text: str) -> int:
        try:
            with _named():
                self._stream.write(text)
        except BrokenPipeError:
            if not self._needed:
                raise
            forget_output()
        return len(text)

    def flush(self) -> None:
        """Nothing: the stream is flushed in the end."""


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the block, which so removes what is half-written; exit code 128 and the number."""
    kept = {}
    for number in (signal.SIGTERM, signal.SIGHUP) if current_thread() is main_thread() else ():
        if signal.getsignal(number) == signal.SIG_DFL:
            kept[number] = signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    # once is enough: what is unwinding must not be ended in the middle
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)
