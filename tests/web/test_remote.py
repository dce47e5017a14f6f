"""The session in a process of its own: answers, errors, crashes, an end at once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from detector.web.remote import RemoteSession, SessionFaultError, SessionLostError
from tests.web.sessions import dying, light_session, missing_model


@pytest.fixture
def remote() -> Iterator[RemoteSession]:
    session = RemoteSession(light_session)
    yield session
    session.stop()


def test_it_answers_as_the_session_does(remote: RemoteSession) -> None:
    assert remote.detect(b"12345", name="a")["size"] == 5  # waits until the session is there
    assert remote.status() == light_session().status()
    assert remote.detect(b"", name="a")["process"] != os.getpid()
    assert remote.explain(b"", [1, 2, 3, 4], "red") == {"box": [1, 2, 3, 4], "label": "red", "tiles": None}
    assert remote.render(b"abc") == b"cba"
    assert remote.search(b"abc") == {"size": 3}


def test_errors_come_back_and_the_session_goes_on(remote: RemoteSession) -> None:
    with pytest.raises(ValueError, match="this is\nno image"):
        remote.detect(b"wrong")
    with pytest.raises(SessionFaultError, match="the detector failed at this image"):
        remote.detect(b"fault")
    assert remote.detect(b"good")["size"] == 4


def test_a_crash_costs_one_answer(remote: RemoteSession) -> None:
    before = remote.detect(b"good")["process"]
    with pytest.raises(SessionLostError, match="crashed at this image"):
        remote.detect(b"crash")
    assert remote.detect(b"good")["process"] != before
    assert remote.fault is None


def test_a_session_that_cannot_be_made() -> None:
    for load, kind, message in (
        (missing_model, OSError, "No such file"),
        (dying, ValueError, "ended while it was loading"),
    ):
        session = RemoteSession(load)
        with pytest.raises(SessionLostError):
            session.detect(b"")
        with pytest.raises(kind, match=message):
            raise session.fault or AssertionError("no fault")
        session.stop()


def test_it_ends_at_once() -> None:
    session = RemoteSession(light_session)
    session.detect(b"")
    session.stop()
    with pytest.raises(SessionLostError):
        session.detect(b"")
    assert session.fault is None
