"""Images in forms and in JSON, and pages behind a proxy."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the page needs the extra [web]")
httpx = pytest.importorskip("httpx2", reason="tests of the page need the extra [web-test]")

from starlette.testclient import TestClient  # noqa: E402

from detector.web.app import create_app  # noqa: E402
from tests.fakes import colored  # noqa: E402
from tests.images.encoded import encode  # noqa: E402
from tests.web.sessions import fake_session, in_one_line  # noqa: E402

BODY = encode(colored(), "PNG")
FORM = "multipart/form-data; boundary=limit"


def client(**options: Any) -> TestClient:
    return TestClient(create_app(fake_session(), **options), base_url="http://localhost:8000")


def form(*parts: tuple[str, bytes]) -> bytes:
    """Return the body of a form: headers and content of each part."""
    return b"".join(b"--limit\r\n%s\r\n\r\n%s\r\n" % (headers.encode(), each) for headers, each in parts) + b"--limit--"


FILE = 'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png'


@pytest.mark.parametrize("file", [FILE, FILE.lower(), "Content-Disposition: form-data; name=x; filename*=UTF-8''%E2"])
def test_a_file_in_a_form(file: str) -> None:
    for path in ("detect", "explain?box=0,0,64,64&class=red"):
        response = client().post(f"/{path}", content=form((file, BODY)), headers={"Content-Type": FORM})
        assert response.status_code == 200, response.text
    assert len(client().post("/detect", files={"file": ("a.png", BODY)}).json()["detections"]) == 2


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (form(), "must hold one file, but holds 0: send the bytes"),
        (form((FILE, BODY), (FILE, BODY)), "must hold one file, but holds 2"),
        (form((FILE, BODY), ("Content-Disposition: form-data; name=min_score", b"1")), "options go into the URL"),
        (form((FILE, b"text")), "not a JPEG"),
        (b"--limit", "must hold one file"),
    ],
)
def test_forms_that_hold_no_image(body: bytes, fault: str) -> None:
    response = client().post("/detect", content=body, headers={"Content-Type": FORM})
    assert response.status_code == 400
    assert fault in in_one_line(response)


@pytest.mark.parametrize("start", ["", "data:image/png;base64,"])
def test_base64_in_json(start: str) -> None:
    body = json.dumps({"image": start + base64.encodebytes(BODY).decode()})
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        response = client().post("/detect", content=body, headers={"Content-Type": kind})
        assert len(response.json()["detections"]) == 2


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"{", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", 'JSON must be {"image"'),
        (b'{"image": 3}', 'JSON must be {"image"'),
        (b'{"image": "?"}', "image is not base64"),
        (b'{"image": "aGVsbG8="}', "not a JPEG"),
        (json.dumps({"image": base64.b64encode(BODY).decode(), "min_score": 1}).encode(), "options go into the URL"),
    ],
)
def test_json_that_holds_no_image(body: bytes, fault: str) -> None:
    response = client().post("/detect", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert fault in in_one_line(response)


# ---- behind a proxy


@pytest.mark.parametrize("host", ["detector.example.org", "detector:8130", "192.168.1.5:8130", "a.b.example.com"])
def test_hosts_are_refused_unless_they_are_allowed(host: str) -> None:
    name = host.partition(":")[0]
    headers = {"Host": host, "Origin": f"https://{host}"}
    assert client().get("/health", headers=headers).status_code == 400
    allowed = "*.b.example.com" if name == "a.b.example.com" else name
    assert client(allowed_hosts=[allowed]).get("/health", headers=headers).status_code == 200
    assert client(allowed_hosts=["example.net"]).get("/health", headers=headers).status_code == 400


def test_a_proxy_that_sends_its_own_host() -> None:
    headers = {"Host": "127.0.0.1:8130", "Origin": "https://detector.example.org"}
    assert client().post("/detect", content=BODY, headers=headers).status_code == 403
    behind = client(allowed_hosts=["detector.example.org"])
    assert behind.post("/detect", content=BODY, headers=headers).status_code == 200
    assert behind.get("/app.js", headers=headers).status_code == 200
    for origin in ("https://evil.org", "https://detector.example.org.evil.org", "null", "https://["):
        assert behind.post("/detect", content=BODY, headers={**headers, "Origin": origin}).status_code == 403


@pytest.mark.parametrize("prefix", ["/tools/detector", ""])
def test_a_page_below_a_path(prefix: str) -> None:
    """A proxy may remove the path from requests or not."""
    below = client(root_path="/tools/detector")
    assert below.get(f"{prefix}/").text.startswith("<!doctype html>")
    assert below.get(f"{prefix}/app.js").status_code == 200
    assert len(below.post(f"{prefix}/detect", content=BODY).json()["detections"]) == 2
    assert below.get("/tools/detector", follow_redirects=False).headers["location"] == "/tools/detector/"
    assert below.get(f"{prefix}/nowhere").status_code == 404
