"""Sessions for tests of the page, without a detector and with a fake one; other processes can create them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detector.web.session import Session


class LightSession:
    """Answer without a detector, as the body demands."""

    def status(self) -> dict[str, Any]:
        return {"status": "ready", "class_names": ["red", "green"], "min_score": -1.5}

    def warm_up(self) -> None:
        pass

    def detect(self, body: bytes, **options: Any) -> dict[str, Any]:
        if body == b"wrong":
            raise ValueError("this is\nno image")
        if body == b"fault":
            raise RuntimeError("a mistake of ours")
        if body == b"crash":
            os._exit(1)
        return {"size": len(body), "process": os.getpid(), **options}

    def explain(self, body: bytes, box: Sequence[float], label: str, **limits: Any) -> dict[str, Any]:
        return {"box": box, "label": label, **limits}

    def search(self, body: bytes) -> dict[str, Any]:
        return {"size": len(body)}

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


def calibrated_session() -> Session:
    """The same with probabilities: red and green are shown from scores of 151 and 0 on."""
    import numpy as np

    from detector.ensemble import Ensemble
    from detector.heads.calibration import PRECISIONS, Calibration
    from detector.web.session import Session
    from tests.fakes import fake_detector, with_heads

    # no threshold reaches a precision above one half
    precisions = np.where(np.arange(PRECISIONS)[:, None] < 50, 0, np.inf).repeat(2, axis=1)
    calibration = Calibration(np.full(2, 0.01), np.full(2, -1.0), np.array([151, 0]), precisions)
    return Session(Ensemble([with_heads(fake_detector(), calibration=calibration)]))


def in_one_line(response: Any) -> str:
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    (line,) = response.text.splitlines()
    return str(line)
