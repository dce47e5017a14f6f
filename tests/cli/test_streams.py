"""Standard streams that are closed, full, or read by nobody; and being told to end while files are written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest

from detector.cli.images import for_each_image
from detector.images.files import write_image
from tests.scripts import ROOT

PROGRAM = """
import os, signal, sys, threading
from pathlib import Path
from detector.cli.console import ResultLines, run
from detector.images.files import read_image
from detector.runtime.files import replacing

# a shell that starts the tests in the background has them ignore the one, nohup the other
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

def main():
    if sys.argv[1] == "decode":
        decoding = threading.Thread(target=lambda: [read_image("image.png") for _ in range(200)])
        decoding.start()
        while decoding.is_alive():
            os.write(2, b".")
            os.write(1, b".")
        return 0
    if sys.argv[1] == "messages":
        print("a message of this program", file=sys.stderr)
        print("\u72d7")
        return 0
    if sys.argv[1] in ("print", "lines"):
        print("line", file=ResultLines(sys.stdout, needed=True) if sys.argv[1] == "lines" else None)
        return 0
    with replacing(Path("file")) as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), int(sys.argv[1]))

run(main)
"""


def start(*arguments: str, cwd: Path, unbuffered: str = "", **settings: Any) -> subprocess.CompletedProcess[str]:
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **settings}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    return subprocess.run([sys.executable, "-c", PROGRAM, *arguments], cwd=cwd, env=environment, **settings)


def test_decoding_an_image_takes_nothing_from_standard_error(tmp_path: Path) -> None:
    write_image(tmp_path / "image.png", np.zeros((300, 300, 3), np.uint8))
    done = start("decode", cwd=tmp_path)
    assert done.returncode == 0
    assert len(done.stderr) == len(done.stdout) > 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk")
def test_messages_that_cannot_be_written_are_lost_but_no_results(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = start("messages", cwd=tmp_path, stderr=full)
    assert (done.returncode, done.stdout) == (0, "\u72d7\n")


def test_names_that_the_encoding_of_a_terminal_lacks_are_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    done = start("messages", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "\\u72d7\n")


def test_streams_that_are_closed_cost_nothing(tmp_path: Path) -> None:
    done = start("print", cwd=tmp_path, stdout=None, preexec_fn=lambda: os.closerange(0, 2))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("what", "unbuffered"), [("print", ""), ("lines", ""), ("lines", "1")])
def test_a_stream_that_is_full_costs_one_line(tmp_path: Path, what: str, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = start(what, cwd=tmp_path, stdout=full, unbuffered=unbuffered)
    assert (done.returncode, done.stderr) == (2, "error: standard output: no space left on device\n")


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGTERM, 143, ""), (signal.SIGHUP, 129, ""), (signal.SIGINT, 130, "interrupted\n")],
)
def test_a_signal_leaves_nothing_half_written(tmp_path: Path, number: int, code: int, line: str) -> None:
    done = start(str(int(number)), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (code, line)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["detector.cli.console", "detector.cli.detect"])
def test_ctrl_c_during_imports_is_one_word(module: str) -> None:
    program = f"""
import sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
sys.argv = ["spp", "detect", "a.jpg"]
from detector.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


class Gone:
    """A stream whose reader went away after a line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, text: str) -> int:
        if len(self.lines) > 1:
            raise BrokenPipeError
        self.lines.append(text)
        return len(text)

    def fileno(self) -> int:
        return os.dup(2)


def test_a_reader_that_went_away_costs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        write_image(path, np.zeros((4, 4, 3), np.uint8))

    def handle(path: Path, image: Any, lines: TextIO) -> dict[str, Any]:
        print(path.name, file=lines)
        return {}

    monkeypatch.setattr("detector.cli.console._discard_output", lambda stream: None)
    monkeypatch.setattr(sys, "stdout", gone := Gone())
    assert for_each_image(paths, lambda: handle, tmp_path / "found.json") == 0
    assert gone.lines == ["0.png", "\n"]
    assert [Path(each["image"]).name for each in json.loads((tmp_path / "found.json").read_text())] == [
        "0.png",
        "1.png",
        "2.png",
    ]
    # where nothing else waits, there is no more to do
    with pytest.raises(BrokenPipeError):
        for_each_image(paths, lambda: handle, None)
