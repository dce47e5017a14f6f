"""Sessions for tests of the page: without a detector and with a fake one, made in other processes, too."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detector.web.session import Session


class LightSession:
    """Answers what the body tells it to, without a detector."""

    def status(self) -> dict[str, Any]:
        return {"status": "ready", "class_names": ["red", "green"], "min_score": -0.8}

    def warmup_steps(self) -> None:
        pass

    def detect(self, body: bytes, **options: Any) -> dict[str, Any]:
        if body == b"wrong":
            raise ValueError("this is\nno image")
        if body == b"fault":
            raise RuntimeError("a mistake of ours")
        if body == b"crash":
            os._exit(1)
        return {"size": len(body), "process": os.getpid(), **options}

    def explain(self, body: bytes, box: Sequence[float], label: str) -> dict[str, Any]:
        return {"box": box, "label": label}

    def render(self, body: bytes) -> bytes:
        return body[::-1]


class _Blocking(LightSession):
    def detect(self, body: bytes, **options: Any) -> dict[str, Any]:
        print(os.getpid(), flush=True)
        threading.Event().wait()
        return {}


def blocking_session() -> Session:
    return _Blocking()  # type: ignore[return-value]


def light_session() -> Session:
    return LightSession()  # type: ignore[return-value]


def missing_model() -> Session:
    raise FileNotFoundError(2, "No such file or directory", "missing.safetensors")


def dying() -> Session:
    os._exit(1)


def fake_session() -> Session:
    """The session of a detector that finds a red and a green square in `tests.fakes.colored`."""
    from detector.ensemble import Ensemble
    from detector.web.session import Session
    from tests.fakes import fake_detector

    return Session(Ensemble([fake_detector()]))


def in_one_line(response: Any) -> str:
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    (line,) = response.text.splitlines()
    return str(line)
