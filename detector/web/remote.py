"""Run the session in its own process, so that the page answers while the model works, and survives its crash."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from detector.runtime.environment import SAFE_PATH, environment_variables

if TYPE_CHECKING:  # the server's process imports neither torch nor numba
    from detector.tiles import Tiles
    from detector.web.session import Answer, Session

_log = logging.getLogger(__name__)


class SessionLostError(Exception):
    """The session's process ended during a call; another one has been started."""


class SessionFaultError(Exception):
    """A call failed by no fault of the user; the session's process has logged the error."""


def start_worker(work: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """Start ``work(pipe, *arguments)`` in a new process; return it, and the other end of the pipe."""
    context = get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, *arguments), daemon=True)
    with environment_variables(SAFE_PATH):
        process.start()
    theirs.close()
    return process, pipe


class RemoteSession:
    """A `Session`, whose methods this class has, in a child process.

    load: creates the session there; must be picklable. Calls wait until the session is ready. ``fault`` is the error
    of a session that could not be created.
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
        self._process, self._pipe = start_worker(_work, self._load)
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
        """Kill the process; a call that waits for it raises SessionLostError."""
        self._stopped = True
        self._process.kill()

    def status(self) -> Answer:
        """Return `Session.status`, or ``{"status": "loading"}``."""
        return self._status

    def detect(self, body: bytes, **options: Any) -> Answer:
        """Call `Session.detect`."""
        return self._call("detect", body, options)

    def explain(
        self, body: bytes, box: Sequence[float], label: str, tiles: Tiles | None = None, **limits: float | None
    ) -> Answer:
        """Call `Session.explain`."""
        return self._call("explain", body, {"box": box, "label": label, "tiles": tiles, **limits})

    def search(self, body: bytes) -> Answer:
        """Call `Session.search`."""
        return self._call("search", body, {})

    def render(self, body: bytes) -> bytes:
        """Call `Session.render`."""
        return self._call("render", body, {})

    def _call(self, method: str, body: bytes, options: dict[str, Any]) -> Any:
        with self._one_at_a_time:
            self._loaded.wait()
            try:
                self._pipe.send((method, body, options))
                outcome = self._pipe.recv()
            except (EOFError, OSError):
                if not self._stopped:
                    _log.error("the detector's process ended during a call; starting another one")
                    self._start()
                raise SessionLostError("the detector crashed at this image and is starting again") from None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def _work(pipe: Connection, load: Callable[[], Session]) -> None:
    """Answer calls until the other end of the pipe is closed. Errors are answers, too."""
    # Ctrl-C reaches every process of a terminal, but only the server decides when to end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        session = load()
    except (ValueError, OSError) as error:
        pipe.send(error)
        return
    pipe.send(session.status())
    session.warm_up()
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
            _log.exception("error in %s", method)
            outcome = SessionFaultError("the detector failed at this image")
        pipe.send(outcome)
