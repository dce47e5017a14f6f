"""The session in a process of its own: the page answers while the model loads and works, and outlives a crash."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the server's process imports neither torch nor numba
    from detector.web.session import Answer, Session

_log = logging.getLogger(__name__)


class SessionLostError(Exception):
    """The session's process ended in the middle of a call; another one has been started."""


class SessionFaultError(Exception):
    """A call ended in an error that is not the user's; the session's process has told it on standard error."""


class RemoteSession:
    """`Session`, whose methods this class has, in a child process that ``load`` makes it in.

    ``load`` must be picklable. ``fault`` is the error of a session that could not be made. Calls that come before the
    session is ready wait for it.
    """

    def __init__(self, load: Callable[[], Session]) -> None:
        self.fault: Exception | None = None
        self._load = load
        self._one_at_a_time = threading.Lock()
        self._stopped = False
        self._start()

    def _start(self) -> None:
        self._status: Answer = {"status": "loading"}
        self._loaded = threading.Event()
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_work, args=(theirs, self._load), daemon=True)
        self._process.start()
        theirs.close()
        threading.Thread(target=self._wait_until_ready, daemon=True).start()

    def _wait_until_ready(self) -> None:
        try:
            outcome = self._pipe.recv()
        except (EOFError, OSError):
            outcome = ValueError("the detector's process ended while it was loading")
        if isinstance(outcome, Exception):
            self.fault = outcome
        else:
            self._status = outcome
        self._loaded.set()

    def stop(self) -> None:
        """End the process at once, whatever it is doing; the call that waits for it raises SessionLostError."""
        self._stopped = True
        self._process.kill()

    def status(self) -> Answer:
        """`Session.status`, or ``{"status": "loading"}``."""
        return self._status

    def detect(self, body: bytes, **options: Any) -> Answer:
        """`Session.detect`."""
        return self._ask("detect", body, options)

    def explain(self, body: bytes, box: Sequence[float], label: str) -> Answer:
        """`Session.explain`."""
        return self._ask("explain", body, {"box": box, "label": label})

    def render(self, body: bytes) -> bytes:
        """`Session.render`."""
        return self._ask("render", body, {})

    def _ask(self, method: str, body: bytes, options: dict[str, Any]) -> Any:
        with self._one_at_a_time:
            self._loaded.wait()
            try:
                self._pipe.send((method, body, options))
                outcome = self._pipe.recv()
            except (EOFError, OSError):
                if not self._stopped:
                    _log.error("the detector's process ended in mid-work; starting another one")
                    self._start()
                raise SessionLostError("the detector broke off at this image and is starting again") from None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def _work(pipe: Connection, load: Callable[[], Session]) -> None:
    """Answer calls until the other end of the pipe is gone. Errors are answers, too."""
    # Ctrl-C reaches every process of a terminal, but the server alone decides what ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        session = load()
    except (ValueError, OSError) as error:
        pipe.send(error)
        return
    pipe.send(session.status())
    session.warmup_steps()
    while True:
        try:
            method, body, options = pipe.recv()
        except EOFError:
            return
        try:
            outcome = getattr(session, method)(body, **options)
        except ValueError as error:
            outcome = ValueError(str(error))
        except Exception:
            _log.exception("a fault in %s", method)
            outcome = SessionFaultError("the detector failed at this image")
        pipe.send(outcome)
