"""Run the teaching session in its own process, and keep what it reports: labels are saved whatever becomes of it."""

from __future__ import annotations

import logging
import signal
import threading
from array import array
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from detector.teaching.project import Project, ProjectImage
from detector.web.remote import SessionFaultError, SessionLostError, start_worker

if TYPE_CHECKING:  # the server's process imports neither torch nor numba
    from detector.teaching.session import TeachingSession

MAX_CRASHES = 3
"""Crashes of the session, after which labels are still saved, but nothing is learned."""
_ANSWER_SECONDS = 60.0
_log = logging.getLogger(__name__)


class Teacher:
    """A project and the process that learns from it.

    ``fault`` stays None: where nothing can be learned, labels are still saved.
    """

    fault: Exception | None = None

    def __init__(self, project: Project) -> None:
        self.project = project
        self._focus = 0
        self._crashes = 0
        self._stopped = False
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._version = 0
        self._start()

    # ---- the process

    def _start(self) -> None:
        with self._changed:
            self._ready = False
            self._round: dict[str, Any] = {}
            self._quality: dict[str, Any] = {}
            self._curve: list[dict[str, Any]] = []
            self._next: list[int] = []
            self._proposals: dict[int, bytes] = {}  # (R, 4) int32
            self._suggestions: dict[int, dict[str, Any]] = {}
            self._failed: dict[int, str] = {}
            self._answers: dict[int, SimpleQueue[Any]] = {}
            self._ticket = 0
        self._process, self._pipe = start_worker(_work, self.project.images, self.project.features)
        threading.Thread(target=self._receive, args=(self._pipe,), daemon=True).start()
        self.send_labels()
        self.look(self._focus)

    def stop(self) -> None:
        """Kill the process and release the project."""
        self._stopped = True
        self._process.kill()
        self._process.join()
        self.project.close()

    def _receive(self, pipe: Connection) -> None:
        while True:
            try:
                kind, image, content = pipe.recv()
            except (EOFError, OSError):
                break
            with self._changed:
                self._version += 1
                self._take(kind, image, content)
                self._changed.notify_all()
        for answer in list(self._answers.values()):
            answer.put(SessionLostError("the learner crashed and is starting again"))
        if not self._stopped:
            self._crashes += 1
            _log.error("the learner's process ended; %s", "starting another one" if self._may_learn else "giving up")
            if self._may_learn:
                self._start()

    @property
    def _may_learn(self) -> bool:
        return self._crashes < MAX_CRASHES

    def _take(self, kind: str, image: int | None, content: Any) -> None:
        if kind == "answer":
            if (answer := self._answers.pop(image or 0, None)) is not None:
                answer.put(content)
        elif kind == "ready":
            self._ready = True
        elif kind == "round":
            self._round = content
        elif kind == "next":
            self._next = content
        elif kind == "quality":
            self._quality = content
            self._curve.append({key: content[key] for key in ("images", "AP50", "error")})
        elif image is not None and kind == "features":
            self._proposals[image] = content
        elif image is not None and kind == "suggestions":
            self._suggestions[image] = content
        elif image is not None:
            self._failed[image] = content

    def _send(self, *message: Any) -> None:
        with self._sending, suppress(OSError):  # of a process that has ended: its successor gets all labels
            self._pipe.send(message)

    # ---- what the page does

    def send_labels(self) -> None:
        """Send the labels of the project as they are now."""
        labels = {number: self.project.labels(number) for number in range(len(self.project.images))}
        given = {number: each for number, each in labels.items() if each.boxes or each.done}
        self._send("label", given, self.project.class_names)

    def look(self, image: int) -> None:
        """Put the work on an image first."""
        self._focus = image
        self._send("look", image)

    def similar(self, image: int, corners: Sequence[float]) -> list[dict[str, Any]]:
        """Return the best match of other images, ``{"image", "box", "similarity"}``, most similar first."""
        found = self._ask("similar", image, tuple(corners))
        return [
            {"image": number, "box": [round(corner, 1) for corner in box], "similarity": round(similarity, 4)}
            for number, box, similarity in found
        ]

    def write_learned(self, what: str, path: Path) -> None:
        """Write the "model" of the last round, or the "report" of its cross-validation.

        Raises ValueError where there is none yet.
        """
        self._ask({"model": "save", "report": "write_report"}[what], path)

    def _ask(self, *message: Any) -> Any:
        if not self._may_learn:
            raise SessionLostError("the learner has crashed several times: start the program again")
        answer: SimpleQueue[Any] = SimpleQueue()
        with self._changed:
            self._ticket += 1
            ticket = self._ticket
            self._answers[ticket] = answer
        self._send("ask", ticket, *message)
        try:
            outcome = answer.get(timeout=_ANSWER_SECONDS)
        except Empty:
            raise SessionLostError("the learner is busy: try again in a few seconds") from None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def state(self, image: int | None) -> dict[str, Any]:
        """Return what the page shows of the work, with the suggestions of an image."""
        with self._changed:
            return {
                "version": self._version,
                "state": ("ready" if self._ready else "loading") if self._may_learn else "lost",
                "computed": len(self._proposals),
                "failed": {str(number): line for number, line in self._failed.items()},
                "round": self._round,
                "quality": self._quality,
                "curve": self._curve,
                "next": self._next,
                "suggestions": self._suggestions.get(image) if image is not None else None,
                "proposed": image in self._proposals,
            }

    def proposals(self, image: int) -> list[list[int]]:
        """Return the proposals of an image, most promising first; none where they are not computed yet."""
        with self._changed:
            corners = array("i", self._proposals.get(image, b"")).tolist()
        return [corners[first : first + 4] for first in range(0, len(corners), 4)]


def _work(pipe: Connection, images: Sequence[ProjectImage], features: Path) -> None:
    """Work step by step until the other end of the pipe is closed; answers come from a thread, between steps or not."""
    # Ctrl-C reaches every process of a terminal, but only the server decides when to end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from detector.teaching.session import Snapshot, TeachingSession

    sending = threading.Lock()

    def report(event: Any) -> None:
        with sending:
            pipe.send(tuple(event))

    session = TeachingSession(images, features, report)
    report(("ready", None, None))
    messages: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, messages, session, report), daemon=True).start()
    busy = True
    while True:
        with suppress(Empty):
            while True:
                kind, *content = messages.get(block=not busy)
                busy = True
                if kind == "end":
                    return
                if kind == "label":
                    session.label(Snapshot(*content))
                else:
                    session.look(*content)
        busy = session.step()


def _listen(pipe: Connection, messages: SimpleQueue[Any], session: TeachingSession, report: Any) -> None:
    """Answer questions at once, and queue the rest."""
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            messages.put(("end",))
            return
        if message[0] != "ask":
            messages.put(message)
            continue
        _, ticket, method, *arguments = message
        try:
            outcome: Any = getattr(session, method)(*arguments)
            if method == "similar":  # plain values, whose module the server need not import
                outcome = [tuple(match) for match in outcome]
        except (ValueError, OSError) as error:
            outcome = ValueError(str(error))
        except Exception:
            _log.exception("error in %s", method)
            outcome = SessionFaultError("the learner failed at this question")
        report(("answer", ticket, outcome))
