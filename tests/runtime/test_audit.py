"""Nothing leaves the machine, and nothing is written but results and caches of this program."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.audit import ROOT, Audit, audited, environment, read_audit

CAT = ROOT / "detector" / "web" / "static" / "samples" / "cat.jpg"
DEMO = ROOT / "data" / "demo"
SPP = ["-P", "-m", "detector"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path


def foreign(audit: Audit, folder: Path) -> list[Path]:
    """Return the written paths outside of the working folder, of the caches, and of the folder of temporary files."""
    ours = [folder / "work", folder / "home" / ".cache" / "spp-detector", Path("/dev"), folder / "temporary"]
    return [
        path
        for path in audit.written
        # compiled kernels are next to their source
        if not any(path.is_relative_to(each) for each in ours)
        and not (path.is_relative_to(ROOT) and "__pycache__" in path.parts)
        and path != folder / "home" / ".cache"
    ]


def check(audit: Audit, folder: Path) -> None:
    assert audit.code == 0, audit.output
    assert (audit.network, foreign(audit, folder)) == ([], [])
    # torch asks for its libraries and matplotlib for fonts; both programs only print
    assert [each for each in audit.started if not re.search("'(/sbin/ldconfig|uname|fc-list)'", each)] == []


def run(folder: Path, *arguments: object) -> Audit:
    (folder / "temporary").mkdir()
    return audited(arguments, folder, folder / "work", TMPDIR=str(folder / "temporary"))


def test_the_audit_sees_connections_files_and_processes(folder: Path) -> None:
    code = (
        "import os, socket, subprocess, sys; open(os.path.expanduser('~/id'), 'w'); "
        "socket.getaddrinfo('localhost', 80); subprocess.run([sys.executable, '-c', \"open('b', 'w')\"])"
    )
    audit = run(folder, "-c", code)
    assert audit.network == ["socket.getaddrinfo ('localhost', 80, 0, 0, 0)"]
    assert foreign(audit, folder) == [folder / "home" / "id"]
    assert len(audit.started) == 1
    assert folder / "work" / "b" in audit.written  # by the child


def test_openvino_sends_and_writes_nothing(folder: Path) -> None:
    check(run(folder, "-c", "from detector.runtime.openvino import _core; _core()"), folder)


@pytest.mark.all
@pytest.mark.parametrize("home", [True, False])
def test_detection_by_the_library(folder: Path, home: bool) -> None:
    code = f"import detector; print(detector.load().detect({str(CAT)!r}).labels)"
    if not home:
        code = f"import os; os.environ['HOME'] = '/nowhere'; {code}"
    audit = run(folder, "-c", code)
    check(audit, folder)
    assert "[7]" in audit.output


@pytest.mark.all
@pytest.mark.parametrize(
    "arguments",
    [
        ("detect", CAT, "--format", "voc,crops"),
        ("detect", CAT, DEMO / "JPEGImages", "--workers", 2, "--parts", "parts"),
        ("detect", CAT, "--runtime", "torch"),
        ("explain", CAT),
        ("data", "check", DEMO),
    ],
    ids=lambda arguments: " ".join(str(each) for each in arguments if not isinstance(each, Path)),
)
def test_a_verb(folder: Path, arguments: tuple[object, ...]) -> None:
    check(run(folder, *SPP, *arguments), folder)


@pytest.mark.all
def test_training_and_evaluation(folder: Path) -> None:
    check(run(folder, *SPP, "train", "--data", DEMO, "--output", "run"), folder)
    arguments = ("--data", DEMO, "--split", "val", "--model", "run", "--report", "report")
    check(audited([*SPP, "evaluate", *arguments], folder, folder / "work"), folder)


@pytest.mark.all
def test_the_page(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, *SPP, "serve", "--port", str(port)]
    server = subprocess.Popen(command, cwd=folder / "work", env=environment(folder), stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        for path in ("detect", "render"):
            url = f"http://127.0.0.1:{port}/{path}"
            for _ in range(100):
                try:
                    with urllib.request.urlopen(urllib.request.Request(url, CAT.read_bytes()), timeout=30) as answer:
                        assert answer.status == 200
                    break
                except ConnectionError:
                    time.sleep(0.1)
    finally:
        os.kill(server.pid, signal.SIGINT)
        server.wait(20)
    check(read_audit(folder), folder)
