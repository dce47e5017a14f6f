"""Run commands in processes that record, with all their children, what they send, write and start.

An audit hook of Python sees every connection and every opened file, also those of dependencies. It is installed by
`sitecustomize`, so that spawned processes have it, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]

_HOOK = """
import json, os, sys

def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"):
        record = [event, str(arguments[1:] if event == "socket.connect" else arguments)]
    elif event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR) and isinstance(arguments[0], (str, bytes)):
        record = [event, os.path.abspath(os.fsdecode(arguments[0]))]
    elif event in ("os.mkdir", "os.rename", "os.symlink", "os.link"):
        record = [event, os.path.abspath(os.fsdecode(arguments[0 if event == "os.mkdir" else 1]))]
    elif event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork"):
        record = [event, str(arguments)]
    else:
        return
    if not record[1].startswith(os.environ["AUDIT_LOG"]):
        line = json.dumps([os.getpid(), *record]) + "\\n"
        descriptor = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)

sys.addaudithook(hook)
"""


class Audit(NamedTuple):
    """What a command and its children did: connections and look-ups, paths written, and commands started."""

    code: int
    output: str
    network: list[str]
    written: list[Path]
    started: list[str]
    n_processes: int


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """Return the environment of audited processes: home and log in ``folder``, and without `CI`."""
    hooks = folder / "hooks"
    hooks.mkdir(parents=True, exist_ok=True)
    (hooks / "sitecustomize.py").write_text(_HOOK)
    (folder / "home").mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "XDG_", "MPL", "PYTEST"))}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(hooks), str(ROOT)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AUDIT_LOG": str(folder / "audit.log"),
        "HOME": str(folder / "home"),
        **changes,
    }


def audited(command: Sequence[Any], folder: Path, cwd: Path, **changes: str) -> Audit:
    """Run Python with the arguments ``command`` in ``cwd``, and return what it did."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=environment(folder, **changes),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return read_audit(folder, done.returncode, done.stdout + done.stderr)


def read_audit(folder: Path, code: int = 0, output: str = "") -> Audit:
    """Return what the processes did that were started with the `environment` of a folder."""
    log = folder / "audit.log"
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    network = [f"{event} {what}" for _, event, what in records if event.startswith(("socket", "urllib"))]
    written = [Path(what) for _, event, what in records if event in ("open", "os.mkdir", "os.rename", "os.symlink")]
    started = [f"{event} {what}" for _, event, what in records if event.startswith(("subprocess", "os.fork", "os.sys"))]
    return Audit(code, output, network, written, started, len({pid for pid, *_ in records}))
