"""Training on the annotations of Label Studio, and the models of the projects after it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the page needs the extra [web]")
pytest.importorskip("httpx2", reason="tests of the page need the extra [web-test]")

from detector.web import label_studio
from detector.web.label_studio_format import parse_label_config
from detector.web.label_studio_host import LabelStudioHost
from detector.web.label_studio_training import MAX_WAITING, ProjectTrainer
from tests.web.label_studios import (
    BODY,
    CONFIG,
    FakeLabelStudio,
    Squares,
    backend_of,
    client_of,
    failing_training,
    fake_training,
)
from tests.web.serving import until

if TYPE_CHECKING:
    from starlette.testclient import TestClient

EXPORT = "/api/projects/7/export?exportType=JSON"


def wait_until_trained(client: TestClient, project: str = "7") -> dict[str, Any]:
    def state() -> dict[str, Any]:
        return dict(client.get("/health").json()["projects"][project])

    until(lambda: not state()["training"])
    return state()


def annotated(number: int, address: str, **changes: object) -> dict[str, Any]:
    value = {"x": 60, "y": 0, "width": 40, "height": 40, "rotation": 0, "rectanglelabels": ["GREEN"]}
    result = [{"type": "rectanglelabels", "from_name": "box", "to_name": "img", "value": value, "id": "r"}]
    annotation = {"id": number, "result": result, "was_cancelled": False, "created_at": "2026-01-02T03:04:05Z"}
    return {"id": number, "data": {"photo": address}, "annotations": [annotation], **changes}


def test_annotations_are_trained_on_and_the_new_model_predicts(studio: FakeLabelStudio, tmp_path: Path) -> None:
    studio.files |= {f"/data/upload/7/{name}.png": BODY for name in "ab"}
    tasks = [annotated(1, "/data/upload/7/a.png"), annotated(2, "http://evil.example/b.png"), {"id": 3}, None]
    studio.files[EXPORT] = json.dumps(tasks).encode()
    backend = backend_of(Squares(), tmp_path, studio.url)
    client = client_of(backend)
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 7, "label_config": CONFIG}, "annotation": {}}
    assert client.post("/webhook", json=event).status_code == 201
    assert wait_until_trained(client) == {"training": False, "version": 1, "error": None}
    (trained,) = json.loads((tmp_path / "7" / "version-1" / "model.safetensors").read_text())
    assert trained["annotations"] == tasks[0]["annotations"]  # type: ignore[index]
    assert (tmp_path / "7" / "data" / trained["data"]["image"]).read_bytes() == BODY
    assert backend.version_of("7") == "project-7-version-1" and backend.version_of("8") == "shipped 1234"
    setup = {"project": "7.99", "schema": CONFIG, "hostname": "http://evil.example", "access_token": "x"}
    assert client.post("/setup", json=setup).json() == {"model_version": "project-7-version-1"}
    body = {"project": "7.1", "label_config": CONFIG, "annotations": [annotated(4, "/data/upload/7/b.png")]}
    assert client.post("/train", json=body).json()["job"] == "project-7"
    assert wait_until_trained(client)["version"] == 2
    backend.stop()


def test_the_reader_of_label_studio_takes_what_is_trained_on(studio: FakeLabelStudio, tmp_path: Path) -> None:
    from detector.datasets.loading import load_dataset

    studio.files |= {"/data/upload/7/a.png": BODY, EXPORT: json.dumps([annotated(1, "/data/upload/7/a.png")]).encode()}
    client = client_of(backend_of(Squares(), tmp_path, studio.url))
    client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 7, "label_config": CONFIG}})
    wait_until_trained(client)
    (image,) = load_dataset(tmp_path / "7" / "data")
    np.testing.assert_array_equal(image.boxes, [[96, 0, 160, 64]])


@pytest.mark.parametrize(
    ("export", "command", "error"),
    [
        (b"[]", fake_training, "the project has no annotated task: submit some annotations"),
        (b"{}", fake_training, "the export of project 7 is no list of tasks"),
        (b"<html>", fake_training, "the export of project 7 cannot be read"),
        (json.dumps([annotated(1, "/data/upload/7/a.png")]).encode(), failing_training, "too few images"),
        (json.dumps([annotated(1, "/data/upload/7/no.png")]).encode(), fake_training, "is not an image"),
    ],
)
def test_a_failed_training_is_reported_and_leaves_the_model(
    studio: FakeLabelStudio, tmp_path: Path, export: bytes, command: Callable[[Path, Path], list[str]], error: str
) -> None:
    studio.files |= {"/data/upload/7/a.png": BODY, "/data/upload/7/no.png": b"no", EXPORT: export}
    backend = backend_of(Squares(), tmp_path, studio.url, command)
    client = client_of(backend)
    client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 7, "label_config": CONFIG}})
    state = wait_until_trained(client)
    assert error in state["error"] and state["version"] == 0
    assert backend.version_of("7") == "shipped 1234"


def test_old_versions_are_removed_and_few_projects_wait(studio: FakeLabelStudio, tmp_path: Path) -> None:
    for number in (2, 9, 10):
        (tmp_path / "7" / f"version-{number}").mkdir(parents=True)
        (tmp_path / "7" / f"version-{number}" / "model.safetensors").touch()
    studio.files["/data/upload/7/a.png"] = BODY
    trainer = ProjectTrainer(tmp_path, LabelStudioHost(studio.url), fake_training)
    tag = parse_label_config(CONFIG)
    trainer.request("7", tag, [annotated(1, "/data/upload/7/a.png")])
    until(lambda: not trainer.state("7")["training"])
    assert sorted(each.name for each in (tmp_path / "7").glob("version-*")) == ["version-10", "version-11", "version-9"]
    trainer.stop()
    taken = [trainer.request(str(number), tag, []) for number in range(100, 102 + MAX_WAITING)]
    assert taken.count(False) == 2


def waiting_training(data: Path, output: Path) -> list[str]:
    """The command of a training like `fake_training`, once there is a file "go" beside the data."""
    wait = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1], '../../go').exists(): time.sleep(0.01)\n"
    copy = f"import subprocess\nsys.exit(subprocess.call({fake_training(data, output)!r}))"
    return [sys.executable, "-c", wait + copy, str(data)]


def test_the_last_request_of_a_waiting_project_is_trained(studio: FakeLabelStudio, tmp_path: Path) -> None:
    studio.files |= {f"/data/upload/7/{name}.png": BODY for name in "abc"}
    trainer = ProjectTrainer(tmp_path, LabelStudioHost(studio.url), waiting_training)
    tag = parse_label_config(CONFIG)
    for name in "abc":
        assert trainer.request("7", tag, [annotated(ord(name), f"/data/upload/7/{name}.png")])
        if name == "a":
            until(lambda: (tmp_path / "7" / "data" / "tasks.json").exists())
    (tmp_path / "go").touch()
    until(lambda: not trainer.state("7")["training"])
    assert trainer.state("7") == {"training": False, "version": 2, "error": None}
    trained = [json.loads((tmp_path / "7" / f"version-{number}/model.safetensors").read_text()) for number in (1, 2)]
    assert [tasks[0]["annotations"][0]["id"] for tasks in trained] == [ord("a"), ord("c")]


def test_an_error_is_gone_after_the_next_training(studio: FakeLabelStudio, tmp_path: Path) -> None:
    studio.files["/data/upload/7/a.png"] = BODY
    trainer = ProjectTrainer(tmp_path, LabelStudioHost(studio.url), fake_training)
    tag = parse_label_config(CONFIG)
    states = []
    for tasks in ([{"id": 1}], [annotated(1, "/data/upload/7/a.png")]):
        trainer.request("7", tag, tasks)
        until(lambda: not trainer.state("7")["training"])
        states.append(trainer.state("7"))
    assert "no annotated task" in states[0]["error"]
    assert states[1] == {"training": False, "version": 1, "error": None}


def test_events_that_change_no_annotation_train_nothing(studio: FakeLabelStudio, tmp_path: Path) -> None:
    backend = backend_of(Squares(), tmp_path, studio.url)
    client = client_of(backend)
    for action in ("PROJECT_UPDATED", "TASKS_CREATED", None):
        event = {"action": action, "project": {"id": 7, "label_config": CONFIG}}
        assert client.post("/webhook", json=event).json() == {"status": "ignored"}
    assert backend.trainer.projects() == {}


class FakeSession:
    """The session of a trained model in a process of its own."""

    def __init__(self, load: Any) -> None:
        (self.model,) = load.args
        self.fault: Exception | None = None
        self.stopped = False

    def detect(self, image: bytes) -> dict[str, Any]:
        assert not self.stopped
        return {"model": self.model}

    def stop(self) -> None:
        self.stopped = True


def test_the_newest_models_of_the_projects_asked_last_stay_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[FakeSession] = []

    def start(load: Any) -> FakeSession:
        sessions.append(FakeSession(load))
        return sessions[-1]

    def add(project: str, number: int) -> Path:
        model = tmp_path / project / f"version-{number}" / "model.safetensors"
        model.parent.mkdir(parents=True)
        model.touch()
        return model

    monkeypatch.setattr(label_studio, "RemoteSession", start)
    backend = backend_of(Squares(), tmp_path)
    models = {project: add(project, 1) for project in "123"}
    for project in "1213":  # two stay: 2 was asked before 1
        assert backend.detect(project, BODY) == ({"model": models[project]}, f"project-{project}-version-1")
    assert [each.stopped for each in sessions] == [False, True, False]
    backend.detect("1", BODY)
    assert len(sessions) == 3
    newer = add("1", 2)
    assert backend.detect("1", BODY) == ({"model": newer}, "project-1-version-2")
    assert [each.stopped for each in sessions] == [True, True, False, False]
    sessions[-1].fault = ValueError("damaged")
    backend.detect("1", BODY)
    assert len(sessions) == 5 and sessions[3].stopped
    backend.stop()
    assert all(each.stopped for each in sessions)
