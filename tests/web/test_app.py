"""The page and its API: answers, refusals in one line, guards against other sites, hostile bodies, a bounded queue."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the page needs the extra [web]")
httpx = pytest.importorskip("httpx2", reason="tests of the page need the extra [web-test]")

from starlette.testclient import TestClient  # noqa: E402

from detector.web.app import create_app  # noqa: E402
from detector.web.guards import MAX_BODY_BYTES, is_loopback, trusted_hosts  # noqa: E402
from tests.fakes import colored  # noqa: E402
from tests.images.encoded import FORMATS, encode  # noqa: E402
from tests.web.sessions import fake_session, in_one_line  # noqa: E402

BODY = encode(colored(), "PNG")
OWN = "http://localhost:8000"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(fake_session()), base_url=OWN) as client:
        yield client


def test_detect(client: TestClient) -> None:
    query = {"name": "<b>.png", "min_score": "120", "proposals": "2"}
    response = client.post("/detect", content=BODY, params=query)
    assert response.status_code == 200
    answer = response.json()
    assert answer["image"] == "<b>.png"
    assert [each["label"] for each in answer["detections"]] == ["red"]
    assert len(answer["proposals"]) == 2
    assert response.headers["content-type"] == "application/json"


def test_the_type_of_a_body_does_not_matter(client: TestClient) -> None:
    for kind in ("application/x-www-form-urlencoded", "image/jpeg", "multipart/form-data; boundary=x", "nonsense"):
        response = client.post("/detect", content=BODY, headers={"Content-Type": kind})
        assert len(response.json()["detections"]) == 2


def test_explain(client: TestClient) -> None:
    response = client.post("/explain", content=BODY, params={"box": "0,0,64,64", "class": "red"})
    assert response.json()["outcome"] == "found"
    response = client.post("/explain", content=BODY, params={"box": "0,0,64.5,64", "class": "green"})
    assert response.json()["outcome"] == "low score"
    params = {"box": "0,0,64.5,64", "class": "red", "min_score": "151"}
    assert client.post("/explain", content=BODY, params=params).json()["outcome"] == "low score"


def test_search(client: TestClient) -> None:
    found = client.post("/search", content=encode(colored(), "PNG")).json()
    assert (found["width"], found["height"], len(found["parts"])) == (160, 160, found["n_regions"] - 1)


def test_render(client: TestClient) -> None:
    response = client.post("/render", content=encode(colored(), "TIFF"))
    assert response.headers["content-type"] == "image/png"


def test_health(client: TestClient) -> None:
    assert client.get("/health").json() == {
        "status": "ready",
        "class_names": ["red", "green"],
        "calibrated": False,
        "min_score": -1.5,
        "thresholds": [0.0, 0.0],
    }


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/detect?min_score=high", "min_score must be a number, but is 'high'"),
        ("/detect?min_score=nan", "min_score must be a number"),
        ("/detect?min_score=1e999", "min_score must be a number"),
        ("/detect?max_detections=0", "max_detections must be a whole number of 1 to 1000, but is '0'"),
        ("/detect?max_detections=²", "max_detections must be"),
        ("/detect?proposals=-1", "proposals must be a whole number of 0 to 10000"),
        ("/detect?proposals=1&proposals=2", "option 'proposals' is given more than once"),
        ("/detect?min_probability=1.1", "min_probability must be a number of 0 to 1, but is '1.1'"),
        ("/detect?precision=0", "precision must be a number of 0.01 to 0.99, but is '0'"),
        ("/detect?precision=0.5&min_score=1", "at most one of min_score, min_probability and precision"),
        ("/detect?precision=0.5", "precision needs one model with a calibration"),
        (
            "/detect?color=red",
            "unknown option 'color': there are max_detections, min_probability, min_score, name, precision, proposals",
        ),
        ("/explain?class=red", "option 'box' is missing"),
        ("/explain?box=1,2,3,4", "option 'class' is missing"),
        ("/explain?box=1,2,3&class=red", "box must be x1,y1,x2,y2, but is '1,2,3'"),
        ("/explain?box=1,2,3,nan&class=red", "box must be x1,y1,x2,y2"),
        ("/explain?box=0,0,64,64&class=blue", "unknown class 'blue'"),
        ("/explain?box=9,9,9,9&class=red", "box must have an area"),
        ("/render?x=1", "unknown option 'x': there are none"),
        ("/search?x=1", "unknown option 'x': there are none"),
    ],
)
def test_wrong_options_are_refused_in_one_line(client: TestClient, path: str, fault: str) -> None:
    response = client.post(path, content=BODY)
    assert response.status_code == 400
    assert fault in in_one_line(response)


def test_wrong_ways_to_ask(client: TestClient) -> None:
    assert client.get("/detect").status_code == 404
    assert client.get("/nowhere").status_code == 404
    assert client.post("/").status_code == 405


@pytest.mark.parametrize("body", [b"", b"hello", b"<svg></svg>", b"\xff\xd8\xff", BODY[:-9], bytes(100_000)])
def test_a_body_that_is_no_image(client: TestClient, body: bytes) -> None:
    for path in ("/detect", "/explain?box=0,0,9,9&class=red", "/search", "/render"):
        response = client.post(path, content=body)
        assert response.status_code == 400
        in_one_line(response)


@cache
def files() -> tuple[bytes, ...]:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    return (*(encode(noise, kind) for kind in FORMATS), encode(noise, "JPEG", progressive=True))


def damaged(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    file = bytearray(files()[seed % len(files())])
    for _ in range(rng.integers(1, 9)):
        # most of them where the headers are
        file[rng.integers(0, rng.choice([16, 64, len(file)]))] = rng.integers(0, 256)
    return bytes(file[: rng.integers(1, len(file) + 1)] if rng.random() < 0.3 else file)


@pytest.mark.parametrize("seeds", [range(100), pytest.param(range(100, 1000), marks=pytest.mark.all)])
def test_damaged_images_never_break_it(client: TestClient, monkeypatch: pytest.MonkeyPatch, seeds: range) -> None:
    # a damaged header may promise 100 megapixels, which take their time
    monkeypatch.setattr("detector.web.session.DEFAULT_MAX_PIXELS", 100_000)
    for seed in seeds:
        response = client.post("/detect", content=damaged(seed))
        assert response.status_code in (200, 400), (seed, response.text)
        if response.status_code == 400:
            in_one_line(response)


# ---- guards


def test_bodies_of_more_than_20_megabytes(client: TestClient) -> None:
    assert MAX_BODY_BYTES == 20_000_000
    most = BODY + bytes(MAX_BODY_BYTES - len(BODY))
    assert client.post("/detect", content=most).status_code == 200
    assert client.post("/detect", content=most + b"0").status_code == 413
    parts = (most[start : start + 10**6] for start in range(0, len(most) + 10**6, 10**6))
    assert client.post("/detect", content=(part or b"0" for part in parts)).status_code == 413


def test_pages_of_other_sites_are_refused(client: TestClient) -> None:
    for origin in (
        "http://evil.example",
        "null",
        "http://localhost:9000",
        "http://localhost",
        "https://localhost.evil",
        "",
    ):
        for response in (
            client.post("/detect", content=BODY, headers={"Origin": origin}),
            client.get("/health", headers={"Origin": origin}),
        ):
            assert response.status_code == 403
            assert in_one_line(response) == "requests from other sites are refused"
    assert client.post("/detect", content=BODY, headers={"Origin": OWN}).status_code == 200


def test_foreign_names_are_refused(client: TestClient) -> None:
    for host in ("evil.example", "localhost.evil.example:8000", "192.168.1.2:8000", ""):
        response = client.get("/", headers={"Host": host})
        assert response.status_code == 400
        in_one_line(response)
    for host in ("localhost:8000", "127.0.0.1", "[::1]:1234", "LOCALHOST:80"):
        assert client.get("/health", headers={"Host": host}).status_code == 200


def test_whom_the_page_answers() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.2", "example.org")] == [False] * 4
    assert set(trusted_hosts("127.0.0.1")) == {"localhost", "127.0.0.1", "[::1]"}
    assert {"192.168.1.2", "localhost"} <= set(trusted_hosts("192.168.1.2"))
    assert "[fd00::7]" in trusted_hosts("fd00::7")
    assert "*" not in trusted_hosts("0.0.0.0")


@pytest.mark.parametrize("path", ["/", "/app.js", "/health", "/nowhere", "/samples/cat.jpg"])
def test_every_answer_says_what_the_page_may_do(client: TestClient, path: str) -> None:
    for headers in ({}, {"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        response = client.get(path, headers=headers)
        assert response.headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"


def test_the_page_has_no_inline_script_or_style_and_no_other_host(client: TestClient) -> None:
    page = client.get("/").text
    assert '<script type="module" src="app.js"></script>' in page
    assert page.count("<script") == 1
    for forbidden in ("style=", "<style", "onclick", "javascript:", "http://", "https://", "//"):
        assert forbidden not in page.replace("<!doctype html>", "")


# ---- the queue
