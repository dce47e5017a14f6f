"""The process that learns, played by a test: what it is sent, what the page sees of it, and its crashes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.images.files import write_image
from detector.teaching.labels import Box, ImageLabels
from detector.teaching.project import Project
from detector.web import teacher as module
from detector.web.remote import SessionLostError
from detector.web.teacher import MAX_CRASHES, Teacher
from tests.fakes import colored
from tests.web.serving import until

Teach = Callable[[Project], Teacher]
_SECONDS = 20.0
RED = Box("red", (0.0, 0.0, 64.0, 64.0))


class FakeProcess:
    def kill(self) -> None:
        pass

    def join(self) -> None:
        pass


class Learner:
    """The other ends of the pipes of all processes that were started."""

    def __init__(self) -> None:
        self.pipes: list[Connection] = []

    def start(self, work: object, *arguments: object) -> tuple[FakeProcess, Connection]:
        ours, theirs = Pipe()
        self.pipes.append(theirs)
        return FakeProcess(), ours

    def wait_for_start(self, count: int) -> None:
        """Wait until so many processes were started."""
        until(lambda: len(self.pipes) == count)

    def received(self, count: int) -> list[Any]:
        """The next messages to the process that was started last."""
        messages = []
        for _ in range(count):
            assert self.pipes[-1].poll(_SECONDS), "nothing is sent"
            messages.append(self.pipes[-1].recv())
        return messages

    def crash(self) -> None:
        self.pipes[-1].close()


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> Learner:
    learner = Learner()
    monkeypatch.setattr(module, "start_worker", learner.start)
    return learner


@pytest.fixture
def teach(learner: Learner) -> Iterator[Teach]:
    """Returns teachers, and stops them at the end."""
    teachers: list[Teacher] = []

    def teach(project: Project) -> Teacher:
        teachers.append(Teacher(project))
        return teachers[-1]

    yield teach
    for each in teachers:
        each.stop()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png", "c.png", "d.png"):
        write_image(tmp_path / "photos" / name, colored())
    return Project(tmp_path / "photos", tmp_path / "project")


def test_a_successor_of_a_crashed_process_gets_all_labels_and_the_view(
    learner: Learner, teach: Teach, project: Project
) -> None:
    project.set_labels(0, ImageLabels((RED,), False))
    project.set_labels(1, ImageLabels((), True))
    labels = {0: ImageLabels((RED,), False), 1: ImageLabels((), True)}
    teacher = teach(project)
    assert learner.received(2) == [("label", labels, ("red",)), ("look", 0)]
    teacher.look(2)
    assert learner.received(1) == [("look", 2)]
    for kind, image, content in (("ready", None, None), ("next", None, [2]), ("failed", 3, "d.png: is damaged")):
        learner.pipes[-1].send((kind, image, content))
    until(lambda: teacher.state(None)["failed"])
    state = teacher.state(None)
    assert (state["state"], state["next"], state["failed"]) == ("ready", [2], {"3": "d.png: is damaged"})
    learner.crash()
    learner.wait_for_start(2)
    assert learner.received(2) == [("label", labels, ("red",)), ("look", 2)]
    state = teacher.state(None)
    assert (state["state"], state["next"], state["failed"]) == ("loading", [], {})


def test_after_some_crashes_labels_are_still_saved_but_nothing_is_learned(
    learner: Learner, teach: Teach, project: Project
) -> None:
    teacher = teach(project)
    for number in range(MAX_CRASHES):
        assert teacher.state(None)["state"] == "loading"
        learner.wait_for_start(number + 1)
        learner.received(2)
        learner.crash()
    until(lambda: teacher.state(None)["state"] == "lost")
    assert len(learner.pipes) == MAX_CRASHES
    with pytest.raises(SessionLostError, match="crashed several times"):
        teacher.similar(0, (0, 0, 9, 9))
    project.set_labels(0, ImageLabels((RED,), True))
    teacher.send_labels()
    assert project.labels(0).done


def test_what_the_process_reports_is_shown(learner: Learner, teach: Teach, project: Project) -> None:
    teacher = teach(project)
    boxes = np.array([[0, 0, 64, 64], [96, 0, 160, 64]], np.int32)
    quality: dict[str, Any] = {"images": 4, "AP50": 0.5, "error": None, "confusions": []}
    later = {**quality, "images": 8, "AP50": 0.75}
    for event in (
        ("features", 1, boxes.tobytes()),
        ("suggestions", 1, {"round": 1, "boxes": []}),
        ("round", None, {"round": 1}),
        ("quality", None, quality),
        ("quality", None, later),
    ):
        learner.pipes[-1].send(event)
    until(lambda: teacher.state(1)["version"] == 5)
    state = teacher.state(1)
    assert (state["computed"], state["proposed"], state["round"]) == (1, True, {"round": 1})
    assert state["suggestions"] == {"round": 1, "boxes": []} and teacher.state(0)["suggestions"] is None
    assert state["quality"] == later
    assert state["curve"] == [{"images": 4, "AP50": 0.5, "error": None}, {"images": 8, "AP50": 0.75, "error": None}]
    assert teacher.proposals(1) == boxes.tolist() and teacher.proposals(0) == []


def test_questions_get_their_own_answers(learner: Learner, teach: Teach, project: Project) -> None:
    teacher = teach(project)
    learner.received(2)
    found: dict[int, Any] = {}
    asking = []
    tickets = {}
    for image in (1, 2):
        thread = threading.Thread(
            target=lambda image=image: found.update({image: teacher.similar(image, (0, 0, 9, 9))})
        )
        thread.start()
        asking.append(thread)
        ((kind, ticket, method, asked, _),) = learner.received(1)
        assert (kind, method, asked) == ("ask", "similar", image)
        tickets[image] = ticket
    for image in (2, 1):  # the last question is answered first
        learner.pipes[-1].send(("answer", tickets[image], [(image + 1, (0.04, 0.0, 9.0, 9.0), 0.123456)]))
    for thread in asking:
        thread.join()
    assert found == {
        image: [{"image": image + 1, "box": [0.0, 0.0, 9.0, 9.0], "similarity": 0.1235}] for image in (1, 2)
    }


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [(ValueError("there is no model yet"), ValueError, "no model yet"), (None, SessionLostError, "is starting again")],
)
def test_errors_are_raised_and_a_crash_ends_the_wait(
    learner: Learner,
    teach: Teach,
    project: Project,
    tmp_path: Path,
    answer: Exception | None,
    kind: type[Exception],
    message: str,
) -> None:
    teacher = teach(project)
    learner.received(2)

    def reply() -> None:
        ((_, ticket, *question),) = learner.received(1)
        assert question == ["save", tmp_path / "model"]
        if answer is None:
            learner.crash()
        else:
            learner.pipes[-1].send(("answer", ticket, answer))

    thread = threading.Thread(target=reply)
    thread.start()
    with pytest.raises(kind, match=message):
        teacher.write_learned("model", tmp_path / "model")
    thread.join()
