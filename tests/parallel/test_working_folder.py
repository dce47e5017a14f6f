"""Processes import nothing from the folder that a command is called in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# of the processes of multiprocessing itself, and of what they import
NAMES = ("struct", "threading", "socket", "logging", "selectors", "signal", "pickle", "numpy", "random")

_WORKERS = """
from pathlib import Path
from detector.parallel.map_images import map_images
from detector.parallel.processes import Processes
from tests.parallel.workers import Doing
print([result for _, result in map_images(Doing(Path(".")), "ab", Processes(1))])
"""
_SERVER = """
from detector.web.remote import RemoteSession
from tests.parallel.workers import Raising
session = RemoteSession(Raising())
session._loaded.wait()
print(session.fault)
"""


def in_hostile_folder(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    hostile = folder / "work"
    hostile.mkdir()
    for name in NAMES:
        (hostile / f"{name}.py").write_text(f"open({str(folder / 'was run')!r}, 'w'); raise SystemExit(9)")
    # a script elsewhere, like the installed program: Python itself would import from the folder for -c and -m
    script = folder / "script.py"
    script.write_text(f"if __name__ == '__main__':\n    {'    '.join(code.strip().splitlines(keepends=True))}\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], cwd=hostile, env=environment, capture_output=True, text=True, timeout=60
    )
    assert not (folder / "was run").exists(), done.stderr
    return done


def test_workers(tmp_path: Path) -> None:
    assert in_hostile_folder(tmp_path, _WORKERS).stdout == "['A', 'B']\n"


def test_the_process_of_the_page(tmp_path: Path) -> None:
    assert "No such file or directory: 'model'" in in_hostile_folder(tmp_path, _SERVER).stdout
