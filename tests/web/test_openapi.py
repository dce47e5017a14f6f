"""The OpenAPI description names the routes, methods and options that the servers answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the page needs the extra [web]")
pytest.importorskip("httpx2", reason="tests of the page need the extra [web-test]")

from starlette.routing import Route
from starlette.testclient import TestClient

from detector.web.app import create_app
from tests.web.label_studios import backend_of
from tests.web.sessions import light_session

OWN = "http://localhost:8000"


@pytest.fixture(params=["page", "label studio"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    from detector.web.label_studio import create_label_studio_app

    if request.param == "page":
        return create_app(light_session())
    return create_label_studio_app(backend_of(light_session(), tmp_path))


def test_it_describes_the_routes_and_no_others(app: Any) -> None:
    described = TestClient(app, base_url=OWN).get("/openapi.json").json()["paths"]
    routes = {each.path: (each.methods or set()) - {"HEAD"} for each in app.routes if isinstance(each, Route)}
    assert {path: {method.upper() for method in each} for path, each in described.items()} == routes


def test_it_describes_the_options(app: Any) -> None:
    client = TestClient(app, base_url=OWN)
    for path in ("/detect", "/explain", "/search", "/render"):
        (operation,) = client.get("/openapi.json").json()["paths"][path].values()
        names = sorted(each["name"] for each in operation.get("parameters", []))
        refusal = client.post(path, content=b"", params={"x": "1"}).text
        assert refusal == f"unknown option 'x': there are {', '.join(names) or 'none'}\n"
