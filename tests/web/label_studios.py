"""A Label Studio for tests: its files and API on a socket, and a backend behind it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fakes import colored
from tests.images.encoded import encode
from tests.web.sessions import LightSession, calibrated_session

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from detector.web.label_studio import LabelStudioBackend

EXCHANGE = json.loads((Path(__file__).parent / "label_studio_exchange.json").read_text(encoding="utf-8"))
"""Requests of Label Studio 1.23 in order, with their answers."""
BODY = encode(colored(), "PNG")
CONFIG = (
    '<View><Image name="img" value="$photo"/><RectangleLabels name="box" toName="img">'
    '<Label value="Cherry" predicted_values="red, berry"/><Label value="GREEN"/></RectangleLabels></View>'
)


class NotedSession(LightSession):
    """Answers like a RemoteSession that never fails to load."""

    fault = None

    def stop(self) -> None:
        pass


class Squares(NotedSession):
    """The session of a calibrated detector of squares."""

    def __init__(self) -> None:
        self.session = calibrated_session()

    def detect(self, body: bytes, **options: Any) -> dict[str, Any]:
        return self.session.detect(body, **options)


class FakeLabelStudio:
    """Files by path, redirects where the content is a text, and the authorization of each request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | str] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.url = ""


@contextmanager
def fake_label_studio() -> Iterator[FakeLabelStudio]:
    studio = FakeLabelStudio()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            studio.requests.append((self.path, self.headers["Authorization"]))
            content = studio.files.get(self.path)
            self.send_response(404 if content is None else 302 if isinstance(content, str) else 200)
            if isinstance(content, str):
                self.send_header("Location", content)
            self.end_headers()
            self.wfile.write(content if isinstance(content, bytes) else b"")

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    studio.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield studio
    finally:
        server.shutdown()
        server.server_close()


def fake_training(data: Path, output: Path) -> list[str]:
    """A command that copies the tasks as a model."""
    script = "import pathlib, shutil, sys; o = pathlib.Path(sys.argv[2]); o.mkdir(parents=True, exist_ok=True); "
    script += "shutil.copy(pathlib.Path(sys.argv[1]) / 'tasks.json', o / 'model.safetensors')"
    return [sys.executable, "-c", script, str(data), str(output)]


def failing_training(data: Path, output: Path) -> list[str]:
    return [sys.executable, "-c", "import sys; print('error: too few images', file=sys.stderr); sys.exit(2)"]


def backend_of(
    session: Any,
    folder: Path,
    url: str = "http://127.0.0.1:9",
    command: Callable[[Path, Path], Sequence[str]] = fake_training,
    token: str = "",
) -> LabelStudioBackend:
    """A backend whose trained models are not loaded."""
    from detector.web.label_studio import LabelStudioBackend
    from detector.web.label_studio_host import LabelStudioHost
    from detector.web.label_studio_training import ProjectTrainer

    host = LabelStudioHost(url, token)
    return LabelStudioBackend(
        session, "shipped 1234", lambda path: session, host, ProjectTrainer(folder, host, command)
    )


def client_of(backend: LabelStudioBackend) -> TestClient:
    from starlette.testclient import TestClient

    from detector.web.label_studio import create_label_studio_app

    return TestClient(create_label_studio_app(backend), base_url="http://localhost:8000")
