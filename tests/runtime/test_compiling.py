"""Machine code on disk: damaged or without a place, it costs time alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """
from numba.core import event

class Count(event.Listener):
    def on_start(self, event): print("compiled")
    def on_end(self, event): pass

event.register("numba:compile", Count())
from kernels import twice
print(twice(21))
"""
KERNELS = """
from detector.runtime.compiling import kernel

@kernel
def twice(x):
    return 2 * x
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[[], tuple[str, str]]:
    (tmp_path / "kernels.py").write_text(KERNELS)

    def once() -> tuple[str, str]:
        environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}", "PATH": ""}
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return once


@pytest.mark.all
@pytest.mark.parametrize(("ending", "damage"), [("nbi", "empty"), ("nbc", "cut off"), ("nbc", "changed")])
def test_damaged_machine_code_is_reported_and_compiled_again(
    run: Callable[[], tuple[str, str]], tmp_path: Path, ending: str, damage: str
) -> None:
    assert run()[0] == "compiled\n42\n"
    assert run()[0] == "42\n"
    (path,) = (tmp_path / "__pycache__").glob(f"*.{ending}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"cut off": bytes(data[: len(data) // 2]), "empty": b"", "changed": bytes(data)}[damage])
    output, errors = run()
    assert output == "compiled\n42\n"
    assert "damaged; compiling it again" in errors and "Traceback" not in errors and errors.count("\n") == 1
    assert run() == ("42\n", "")


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [("parts.py", "return FACTOR * x", "return FACTOR * x + 1"), ("constants.py", "FACTOR = 2", "FACTOR = 3")],
)
@pytest.mark.all
def test_machine_code_of_other_files_is_never_stale(
    run: Callable[[], tuple[str, str]], tmp_path: Path, file: str, before: str, after: str
) -> None:
    sources = {
        "constants.py": "FACTOR = 2",
        "parts.py": "from detector.runtime.compiling import kernel\nfrom constants import FACTOR\n\n@kernel\n"
        "def scaled(x):\n    return FACTOR * x",
        "kernels.py": KERNELS.replace("import kernel", "import kernel\nfrom parts import scaled").replace(
            "2 * x", "scaled(x)"
        ),
    }
    for name, source in sources.items():
        (tmp_path / name).write_text(source)
    assert run()[0].splitlines()[-1] == "42"
    assert run() == ("42\n", "")
    files = {path.name for path in (tmp_path / "__pycache__").glob("*.nb?")}
    (tmp_path / file).write_text(sources[file].replace(before, after))
    expected = {"parts.py": "43", "constants.py": "63"}[file]
    assert run()[0].splitlines()[-1] == expected
    assert run() == (f"{expected}\n", "")
    # the files of the earlier code are gone
    now = {path.name for path in (tmp_path / "__pycache__").glob("*.nb?")}
    assert now.isdisjoint(files)
    assert len(now) == len(files)


@pytest.mark.all
def test_read_only_sources_are_cached_in_the_programs_own_folder(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text(KERNELS)
    read_only = "import os, pathlib\nos.access = lambda *_: False\n"
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}", "PATH": "", "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", read_only + PROGRAM]
    for expected in ("compiled\n42\n", "42\n"):
        assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout == expected
    assert [*(tmp_path / "spp-detector" / "kernels").rglob("kernels.twice-*.nbi")]
    # without a home folder, kernels are compiled in each process
    homeless = "def home(): raise RuntimeError\npathlib.Path.home = home\n"
    del environment["XDG_CACHE_HOME"]
    for _ in range(2):
        command = [sys.executable, "-c", read_only + homeless + PROGRAM]
        assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout == "compiled\n42\n"
