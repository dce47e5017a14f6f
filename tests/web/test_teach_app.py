"""The API of the page that teaches: labels are saved or refused in one line, and requests reach nothing else."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the page needs the extra [web]")
pytest.importorskip("httpx2", reason="tests of the page need the extra [web-test]")

from starlette.testclient import TestClient

from detector.images.files import write_image
from detector.teaching.labels import NOTHING, Box, ImageLabels
from detector.teaching.project import Project
from detector.web.teach_app import create_teach_app
from tests.fakes import colored
from tests.web.sessions import in_one_line

OWN = "http://localhost:8000"
LABELS = {"boxes": [{"label": "red", "box": [0, 0, 64, 64]}], "done": True}


class LightTeacher:
    """What the page asks of a `Teacher`, without a process that learns."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.sent = 0
        self.viewed: list[int] = []

    def send_labels(self) -> None:
        self.sent += 1

    def look(self, image: int) -> None:
        self.viewed.append(image)

    def state(self, image: int | None) -> dict[str, Any]:
        return {"state": "ready", "suggestions": image}

    def proposals(self, image: int) -> list[list[int]]:
        return [[0, 0, 64, 64]]

    def similar(self, image: int, corners: tuple[float, ...]) -> list[dict[str, Any]]:
        return [{"image": 1 - image, "box": list(corners), "similarity": 1.0}]

    def write_learned(self, what: str, path: Path) -> None:
        raise ValueError(f"there is no {what} yet, nothing in {path.name}")


@pytest.fixture
def teacher(tmp_path: Path) -> LightTeacher:
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.tif"):
        write_image(tmp_path / "photos" / name, colored())
    (tmp_path / "photos" / "c.jpg").write_bytes(b"\xff\xd8\xff and no more")
    return LightTeacher(Project(tmp_path / "photos", tmp_path / "project"))


@pytest.fixture
def client(teacher: LightTeacher) -> Iterator[TestClient]:
    app = create_teach_app(teacher)  # type: ignore[arg-type]
    with TestClient(app, base_url=OWN) as client:
        yield client


def test_labels_are_saved_and_sent(client: TestClient, teacher: LightTeacher) -> None:
    answer = client.put("/teach/labels?image=0", json=LABELS)
    assert answer.json() == {"class_names": ["red"]}
    assert teacher.project.labels(0) == ImageLabels((Box("red", (0, 0, 64, 64)),), True)
    assert teacher.sent == 1
    assert client.get("/teach/labels?image=0").json() == {"width": 160, "height": 160, **LABELS}
    project = client.get("/teach/project").json()
    assert [(each["name"], each["boxes"], each["done"]) for each in project["images"]] == [
        ("a.png", 1, True),
        ("b.tif", 0, False),
        ("c.jpg", 0, False),
    ]


def test_the_page_and_its_guards(client: TestClient) -> None:
    answer = client.get("/")
    assert "Teach a detector" in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert client.get("/health").json() == {"status": "ready", "class_names": []}
    other = client.put("/teach/labels?image=0", json=LABELS, headers={"Origin": "http://evil.example"})
    assert other.status_code == 403
    assert client.get("/teach/project", headers={"Host": "evil.example"}).status_code == 400


def test_images_are_shown_whatever_their_format(client: TestClient) -> None:
    for image, kind in (("0", "image/png"), ("1", "image/png"), ("0&thumbnail=1", "image/jpeg")):
        answer = client.get(f"/teach/image?image={image}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    damaged = client.get("/teach/image?image=2")
    assert damaged.status_code == 400
    assert "c.jpg" in in_one_line(damaged)


def test_a_view_a_search_and_an_export(client: TestClient, teacher: LightTeacher) -> None:
    client.post("/teach/look?image=1")
    assert teacher.viewed == [1]
    found = client.post("/teach/similar?image=0&box=0,0,64,64").json()["matches"]
    assert found == [{"image": 1, "box": [0, 0, 64, 64], "similarity": 1.0}]
    assert "no model yet" in in_one_line(client.post("/teach/export?format=model"))
    assert "no report yet" in in_one_line(client.post("/teach/export?format=report"))
    client.put("/teach/labels?image=0", json=LABELS)
    answer = client.post("/teach/export?format=yolo").json()
    assert (Path(answer["path"]) / "data.yaml").is_file()
    assert client.post("/teach/rename?from=red&to=crimson").json() == {"class_names": ["crimson"]}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("image=3", "image must be a whole number of 0 to 2"),
        ("image=-1", "image must be a whole number"),
        ("image=../../etc/passwd", "image must be a whole number"),
        ("", "option 'image' is missing"),
        ("image=0&image=1", "option 'image' is given more than once"),
        ("image=0&path=/etc/passwd", "unknown option 'path'"),
    ],
)
def test_wrong_numbers_cost_a_line(client: TestClient, path: str, line: str) -> None:
    assert in_one_line(client.get(f"/teach/labels?{path}")).startswith(line)


def test_large_labels_are_refused(client: TestClient, teacher: LightTeacher) -> None:
    many = {"boxes": LABELS["boxes"] * 1001, "done": True}  # type: ignore[operator]
    assert client.put("/teach/labels?image=0", json=many).status_code == 400
    assert client.put("/teach/labels?image=0", content=b" " * 1_000_001).status_code == 413
    assert teacher.project.labels(0) == NOTHING


def test_a_full_disk_and_a_missing_image_cost_a_line(
    client: TestClient, teacher: LightTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    (teacher.project.photos / "b.tif").unlink()
    assert "b.tif" in in_one_line(gone := client.get("/teach/image?image=1"))
    assert gone.status_code == 404

    def full(*args: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    refused = client.put("/teach/labels?image=0", json=LABELS)
    assert (refused.status_code, teacher.sent) == (507, 0)
    assert "no space left on device" in in_one_line(refused).lower()


@pytest.mark.all
def test_1000_hostile_requests(client: TestClient, teacher: LightTeacher, tmp_path: Path) -> None:
    """None is a fault of the server, and nothing outside of the project is written."""
    rng = random.Random(0)
    values = ["0", "2", "-1", "9" * 400, "NaN", "../x", "%00", "\N{DOG FACE}", "", "a,b", "0,0,1e999,4", "0,0,5,5"]
    bodies = [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"boxes": [{"label": "a", "box": [0, 0, 1e400, NaN]}], "done": true}',
        json.dumps(LABELS).encode(),
        b'{"boxes": [], "done": "\xff"}',
        b"PK\3\4" + bytes(range(256)),
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>',
    ]
    paths = ["labels", "image", "state", "proposals", "similar", "look", "rename", "export", "import", "project", "x"]
    names = ["image", "box", "from", "to", "format", "name", "thumbnail"]
    outside = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if "project" not in path.parts}
    for _ in range(1000):
        params = {name: rng.choice(values) for name in rng.sample(names, rng.randrange(4))}
        method = rng.choice(["GET", "PUT", "POST", "DELETE"])
        answer = client.request(method, f"/teach/{rng.choice(paths)}", params=params, content=rng.choice(bodies))
        assert answer.status_code < 500, (method, answer.url, answer.text)
        assert "root:" not in answer.text
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if "project" not in path.parts} == outside
