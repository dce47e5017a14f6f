"""The server as a process: paths that lead elsewhere, slow clients, Ctrl-C, many clients at a time."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the page needs the extra [web]")
pytest.importorskip("uvicorn", reason="the page needs the extra [web]")

from detector.cli.console import run
from detector.cli.serve import main
from tests.fakes import colored
from tests.images.encoded import encode
from tests.web.serving import ENVIRONMENT, ROOT, memory, serving


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with serving("light_session", header_seconds=0.3) as (url, _):
        host, port = url.removeprefix("http://").split(":")
        yield host, int(port)


def exchange(address: tuple[str, int], sent: bytes) -> bytes:
    """Everything that the server answers to raw bytes until it closes the connection."""
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(sent)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def get(address: tuple[str, int], path: str) -> bytes:
    return exchange(address, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())


def test_the_page_is_there_at_once(address: tuple[str, int]) -> None:
    answer = get(address, "/")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"server: uvicorn" not in answer
    assert b"<title>spp-detector</title>" in answer
    for name in ("app.js", "style.css", "icon.svg", "samples/cat.jpg"):
        assert get(address, f"/{name}").startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "path",
    [
        "/../app.py",
        "/..%2fapp.py",
        "/%2e%2e/app.py",
        "/%2e%2e%2fapp.py",
        "/samples/../../app.py",
        "/samples/..%5c..%5capp.py",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/....//....//etc/passwd",
        "/app.js%00.png",
        "/..%c0%afapp.py",
        "/" + "../" * 20 + "etc/passwd",
        "/samples",
        "/samples/",
    ],
)
def test_only_files_of_the_page_are_served(address: tuple[str, int], path: str) -> None:
    answer = get(address, path)
    assert b" 404 " in answer.split(b"\r\n")[0] or (path == "/samples" and b" 307 " in answer.split(b"\r\n")[0])
    assert b"create_app" not in answer
    assert b"root:" not in answer


def test_what_is_no_http_is_refused(address: tuple[str, int]) -> None:
    for sent in (
        b"\x16\x03\x01\x02\x00\x01\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /detect HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ):
        assert exchange(address, sent).startswith(b"HTTP/1.1 400 ")
    assert get(address, "/health").startswith(b"HTTP/1.1 200 ")


def test_clients_that_never_finish_their_headers_are_hung_up_on(address: tuple[str, int]) -> None:
    for sent in (b"", b"GET / HTTP/1.1\r\nHost: local"):
        assert exchange(address, sent) == b""


def test_ctrl_c_ends_it_in_mid_work_with_its_session() -> None:
    with serving("blocking_session") as (url, process):
        host, port = url.removeprefix("http://").split(":")
        with (
            socket.create_connection((host, int(port)), timeout=60) as slow,
            socket.create_connection((host, int(port))) as busy,
        ):
            slow.sendall(b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12")
            busy.sendall(b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n12")
            assert process.stdout is not None
            worker = int(process.stdout.readline())  # the session tells when it is at work
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_a_session_that_cannot_be_made_ends_it() -> None:
    with serving("missing_model") as (_, process):
        assert process.wait(60) == 2
        assert process.stderr is not None
        assert process.stderr.read().splitlines() == ["error: missing.safetensors: no such file or directory"]


def test_mistakes_of_the_user_cost_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, line in (
            (("--port", str(port)), f"error: cannot listen on 127.0.0.1, port {port}: address already in use"),
            (("--port", "65536"), "spp serve: argument --port: must be 0 to 65535, but is 65536; see --help"),
            (("--host", "192.0.2.1"), "error: cannot listen on 192.0.2.1, port 8000: cannot assign requested address"),
        ):
            monkeypatch.setattr("sys.argv", ["spp serve", *arguments])
            with pytest.raises(SystemExit) as exit_:
                run(main)
            assert exit_.value.code == 2
            assert capsys.readouterr().err.splitlines() == [line]


@pytest.mark.all
def test_the_command(tmp_path: Path) -> None:
    """The page is there before the model is; an image may be sent all the same; Ctrl-C ends both."""
    command = [sys.executable, "-m", "detector", "serve", "--port", "0", "--host", "0.0.0.0"]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path, env=ENVIRONMENT) as process,
        ExitStack() as stack,
    ):
        stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().split()[0]
        assert url.startswith("http://localhost:")
        assert process.stderr.readline() == "warning: other machines can reach this page without a login\n"
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=300)
        connection.request("GET", "/health")
        assert json.loads(connection.getresponse().read()) == {"status": "loading"}
        cat = (ROOT / "detector/web/static/samples/cat.jpg").read_bytes()
        connection.request("POST", "/detect", cat)
        found = json.loads(connection.getresponse().read())["detections"]
        assert found[0]["label"] == "cat"
        connection.request("GET", "/health")
        assert json.loads(connection.getresponse().read())["status"] == "ready"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@pytest.mark.all
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_200_images_of_8_clients() -> None:
    """None is lost, none is that of another, and memory stays as it is."""
    images = [colored() for _ in range(8)]
    for number, image in enumerate(images):
        image[:64, :64, 0] = 110 + 10 * number

    def client(number: int) -> list[float]:
        body = encode(images[number], "PNG")
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=300)
        scores = []
        for _ in range(25):
            connection.request("POST", f"/detect?name={number}", body)
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert (response.status, answer["image"]) == (200, str(number))
            scores += [each["score"] for each in answer["detections"] if each["label"] == "red"]
        return scores

    with serving("fake_session") as (url, process), ThreadPoolExecutor(8) as clients:
        expected = [[10.0 + 10 * number] * 25 for number in range(8)]
        assert list(clients.map(client, range(8))) == expected
        before = memory(process.pid)
        assert list(clients.map(client, range(8))) == expected
        assert memory(process.pid) - before < 10_000  # kilobytes
