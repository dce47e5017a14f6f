"""The ML backend protocol of Label Studio: a recorded exchange, images of its host alone, hostile input."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the page needs the extra [web]")
pytest.importorskip("httpx2", reason="tests of the page need the extra [web-test]")

from starlette.testclient import TestClient

from detector.web import label_studio_host
from detector.web.label_studio_format import parse_label_config, prediction_of, project_of
from detector.web.label_studio_host import LabelStudioError, LabelStudioHost, parse_host
from tests.web.label_studios import (
    BODY,
    CONFIG,
    EXCHANGE,
    FakeLabelStudio,
    Squares,
    backend_of,
    client_of,
    fake_label_studio,
)
from tests.web.sessions import in_one_line


def predict(client: TestClient, *addresses: object, **changes: object) -> Any:
    tasks = [{"id": number, "data": {"photo": address}} for number, address in enumerate(addresses)]
    return client.post("/predict", json={"project": "7.1", "label_config": CONFIG, "tasks": tasks, **changes})


# ---- the protocol


def test_a_recorded_exchange_is_answered_as_then(studio: FakeLabelStudio, tmp_path: Path) -> None:
    studio.files |= {each["body"]["tasks"][0]["data"]["image"]: BODY for each in EXCHANGE if each["path"] == "/predict"}
    studio.files["/api/projects/1/export?exportType=JSON"] = b"[]"
    backend = backend_of(Squares(), tmp_path, studio.url)
    client = client_of(backend)
    for each in EXCHANGE:
        response = client.request(each["method"], each["path"], json=each["body"], headers=each["headers"])
        assert response.status_code == each["status"], response.text
        answer = response.json()
        assert set(each["answer"]) <= set(answer), each["path"]
        if each["path"] == "/predict":
            (expected,), (found,) = each["answer"]["results"], answer["results"]
            assert set(found) == set(expected)
    assert {each["path"] for each in EXCHANGE} == {"/health", "/setup", "/predict", "/webhook"}
    backend.stop()


def test_suggestions_are_rectangles_in_per_cent_with_probabilities(studio: FakeLabelStudio, tmp_path: Path) -> None:
    studio.files["/data/upload/7/a.png"] = BODY
    answer = predict(client_of(backend_of(Squares(), tmp_path, studio.url)), "/data/upload/7/a.png").json()
    (found,) = answer["results"]
    (green,) = found["result"]  # of the calibrated session, red is hidden
    assert green.pop("id")
    probability = green.pop("score")
    assert found["score"] == probability == 0.5
    assert green == {
        "from_name": "box",
        "to_name": "img",
        "type": "rectanglelabels",
        "original_width": 160,
        "original_height": 160,
        "image_rotation": 0,
        "value": {"x": 60, "y": 0, "width": 40, "height": 40, "rotation": 0, "rectanglelabels": ["GREEN"]},
    }
    assert found["model_version"] == answer["model_version"] == "shipped 1234"


def test_classes_get_the_labels_of_the_project() -> None:
    tag = parse_label_config(CONFIG)
    assert [tag.label_of(name) for name in ("red", "Berry", "cherry", "green", "blue")] == [
        *("Cherry", "Cherry", "Cherry", "GREEN", None)
    ]
    # what a label says that it predicts goes before equal names
    both = CONFIG.replace('value="GREEN"', 'value="Red"')
    assert parse_label_config(both).label_of("red") == "Cherry"
    dynamic = parse_label_config('<V><Image name="i" value="$i"/><RectangleLabels name="l" toName="i" value="$l"/></V>')
    assert dynamic.label_of("anything") == "anything"


def test_boxes_stay_inside_and_scores_without_calibration_are_left_out() -> None:
    detections = [{"label": "red", "score": 3.0, "box": [-1.0, 10.0, 51.0, 30.0]}]
    answer = {"width": 50, "height": 40, "detections": detections}
    found = prediction_of(answer, parse_label_config(CONFIG), "v")
    assert found["result"][0]["value"] | {"rectanglelabels": 0} == {
        "x": 0,
        "y": 25,
        "width": 100,
        "height": 50,
        "rotation": 0,
        "rectanglelabels": 0,
    }
    assert "score" not in found["result"][0] and found["score"] == 0


def test_a_task_without_image_costs_its_prediction_alone(studio: FakeLabelStudio, tmp_path: Path) -> None:
    studio.files |= {"/data/upload/7/a.png": BODY, "/data/upload/7/no.png": b"no image"}
    client = client_of(backend_of(Squares(), tmp_path, studio.url))
    answer = predict(client, "/data/upload/7/no.png", "/data/upload/7/a.png", "/data/upload/7/gone.png", 5).json()
    assert [len(each["result"]) for each in answer["results"]] == [0, 1, 0, 0]
    assert "answered with status 404" in answer["results"][2]["error"]
    assert "no text 'photo'" in answer["results"][3]["error"]
    for address, status in (("/data/upload/7/gone.png", 502), ("http://evil.example/a.png", 400)):
        response = predict(client, address)
        assert response.status_code == status
        in_one_line(response)


# ---- what is fetched


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/data/upload/7/a%20b.png", "/data/upload/7/a%20b.png"),
        ("/data/upload/7/ä b.png", "/data/upload/7/%C3%A4%20b.png"),
        ("/data/local-files/?d=cats/1.jpg", "/data/local-files/?d=cats/1.jpg"),
        ("http://LS.example:80/images/1.jpg", None),
        ("/studio/data/upload/1.jpg", "/data/upload/1.jpg"),
    ],
)
def test_addresses_of_the_host(address: str, path: str | None) -> None:
    url = LabelStudioHost("http://ls.example/studio").resolve(address)
    assert url == (address if path is None else f"http://ls.example/studio{path}")


@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://evil.example/a.png",
            "https://ls.example/a.png",
            "http://ls.example:81/a.png",
            "//evil.example/a.png",
        ),
        *("http://ls.example@evil.example/a", "http://ls.example:80@evil.example/", "http://u:p@ls.example/a.png"),
        *(
            "http://ls.example\\@evil.example/a",
            "http://ls.example.evil.example/",
            "http://[::1/a",
            "http://ls.example:x/",
        ),
        *("file:///etc/passwd", "ftp://ls.example/a", "data:image/png;base64,AAAA", "s3://bucket/a.png", "a.png"),
        *("/etc/passwd", "/api/users", "/data/upload/../../api/users", "/data/upload/%2e%2e/%2e%2e/api/users", ""),
        *("/data/upload/a\r\nHost: evil", "/data/upload\x00", "/data/uploads/a.png", "http:/ls.example/a.png"),
    ],
)
def test_nothing_else_is_fetched(address: str) -> None:
    with pytest.raises(ValueError, match=r"is not|is no address") as caught:
        LabelStudioHost("http://ls.example").resolve(address)
    assert "\n" not in str(caught.value)


def test_redirects_stay_on_the_host_and_the_token_with_it(
    studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    host = LabelStudioHost(studio.url, "secret")
    studio.files |= {
        "/data/upload/a": "/data/upload/b",
        "/data/upload/b": BODY,
        "/data/upload/loop": "/data/upload/loop",
    }
    assert host.image("/data/upload/a") == BODY
    assert studio.requests == [("/data/upload/a", "Token secret"), ("/data/upload/b", "Token secret")]
    with pytest.raises(LabelStudioError, match="status 302"):
        host.image("/data/upload/loop")
    with fake_label_studio() as other:
        for url in (f"{other.url}/data/upload/b", "file:///etc/passwd", "ftp://127.0.0.1/"):
            studio.files["/data/upload/away"] = url
            with pytest.raises((ValueError, LabelStudioError), match=r"other hosts are not fetched|status 302"):
                host.image("/data/upload/away")
        assert other.requests == []


def test_a_personal_access_token_is_exchanged(studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    studio.files |= {"/api/token/refresh": b'{"access": "short"}', "/data/upload/a": BODY}
    host = LabelStudioHost(studio.url, "a.b.c")
    host.image("/data/upload/a")
    host.image("/data/upload/a")
    assert studio.requests == [("/api/token/refresh", None), *[("/data/upload/a", "Bearer short")] * 2]
    later = monotonic() + 121
    monkeypatch.setattr(label_studio_host.time, "monotonic", lambda: later)
    studio.files["/api/token/refresh"] = b'{"access": "next"}'
    host.image("/data/upload/a")
    assert studio.requests[3:] == [("/api/token/refresh", None), ("/data/upload/a", "Bearer next")]
    studio.files["/api/token/refresh"] = b"[]"
    with pytest.raises(LabelStudioError, match="did not accept the personal access token") as caught:
        LabelStudioHost(studio.url, "a.b.c").image("/data/upload/a")
    assert "a.b.c" not in str(caught.value)


def test_large_files_are_refused(studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.web.label_studio_host.MAX_BODY_BYTES", 1_000_000)
    studio.files["/data/upload/a"] = bytes(1_000_001)
    with pytest.raises(ValueError, match="has more than 1 MB"):
        LabelStudioHost(studio.url).image("/data/upload/a")


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://a", "http://", "http://u:p@a", "http://a?b", "http://a:x", "http://a b"]
)
def test_urls_that_name_no_host(url: str) -> None:
    with pytest.raises(ValueError, match="must be the URL of Label Studio"):
        parse_host(url)
    assert parse_host("http://a:1/b/") == "http://a:1/b"


# ---- hostile requests


@pytest.mark.parametrize(
    "value", [None, True, "", "x", "../7", "7/..", "7\n", "\u0667", -1, 1.5e300, "9" * 40, {}, {"id": "a"}]
)
def test_projects_are_numbers(value: object) -> None:
    with pytest.raises(ValueError, match="project must be the id"):
        project_of(value)
    assert [project_of(each) for each in (7, "7", "7.123", {"id": 7})] == ["7"] * 4


@pytest.mark.parametrize(
    "config",
    [
        *(None, 5, "", "x", "<a>", "<View/>", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "\ud800", "<a>" * 5000),
        '<View><Image name="i" value="$i"/><RectangleLabels name="l" toName="j"/></View>',
        '<View><Image name="i" value="http://a"/><RectangleLabels name="l" toName="i"/></View>',
        '<View><Text name="i" value="$i"/><RectangleLabels name="l" toName="i"/></View>',
    ],
)
def test_labeling_configurations_that_have_no_rectangles(config: object) -> None:
    with pytest.raises(ValueError, match="label_config") as caught:
        parse_label_config(config)
    assert "\n" not in str(caught.value)


def mutated(rng: np.random.Generator, value: Any) -> Any:
    """A JSON value with one part replaced by junk."""
    junk: list[Any] = [
        None,
        True,
        -1,
        10**400,
        "",
        "../..",
        "\x00",
        [],
        {},
        [[]],
        {"id": "x"},
        "http://127.0.0.1:9/a",
        "$" * 99,
    ]
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = str(rng.choice([*value]))
        return {**value, key: mutated(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        row = int(rng.integers(len(value)))
        return [*value[:row], mutated(rng, value[row]), *value[row + 1 :]]
    return junk[rng.integers(len(junk))]


@pytest.mark.parametrize("count", [pytest.param(1000, marks=pytest.mark.all)])
def test_hostile_requests_are_refused_in_one_line(tmp_path: Path, count: int) -> None:
    client = client_of(backend_of(Squares(), tmp_path / "runs"))
    rng = np.random.default_rng(0)
    posts = [each for each in EXCHANGE if each["method"] == "POST"]
    for number in range(count):
        each = posts[number % len(posts)]
        body = json.dumps(mutated(rng, each["body"])).encode()
        if number % 5 == 0:
            body = body[: rng.integers(len(body))]
        response = client.post(each["path"] if number % 3 else "/train", content=body)
        assert response.status_code in (200, 201, 400, 502, 503), (body, response.text)
        if response.status_code >= 400:
            in_one_line(response)
    assert {each.name for each in tmp_path.iterdir()} <= {"runs"}
