"""Run `spp` and the scripts of `tools/` in processes of their own, and start processes that tests kill.

A server that has imported what takes seconds forks them: they start at once, and none inherits threads.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
from functools import cache
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORTED = [
    "tests.scripts",
    "detector.build",
    "detector.classification.training",
    "detector.images.drawing",
    "detector.ensemble",
    "detector.training.train",
    "detector.web.app",
    "jinja2",
    "matplotlib.pyplot",
    "sklearn.linear_model",
    "torch._dynamo",
    *(f"detector.cli.{each.stem}" for each in (ROOT / "detector" / "cli").glob("[!_]*.py")),
    "tests.warm",
]


@cache
def forking() -> ForkServerContext:
    """The context whose processes are forked off that server, with one thread for torch."""
    context = get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        # not in the cache of the first test, which may look at what is there
        patch.setenv("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / "spp-detector-tests"))
        forkserver.ensure_running()
    return context


def spp(verb: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``spp VERB`` with ``arguments`` in the folder ``cwd``."""
    return _in_fork(ROOT / "detector" / "__main__.py", (verb, *map(str, arguments)), cwd)


def script(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a script of `tools/` with ``arguments`` in the folder ``cwd``."""
    return _in_fork(ROOT / "tools" / name, tuple(map(str, arguments)), cwd)


def _in_fork(file: Path, arguments: tuple[str, ...], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(file), *arguments]
    streams = [cwd.parent / f".{cwd.name}.{kind}" for kind in ("out", "err")]
    process = forking().Process(target=_run, args=(command, cwd, streams))
    process.start()
    process.join()
    output, errors = (stream.read_text(encoding="utf-8") for stream in streams)
    return subprocess.CompletedProcess(command, process.exitcode or 0, output, errors)


def _run(command: list[str], cwd: Path, streams: list[Path]) -> None:
    os.chdir(cwd)
    for number, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")
