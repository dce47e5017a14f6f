"""A real server in a process of its own, for tests that need sockets or signals."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
_SERVE = """
import sys
from detector.cli.console import run
from detector.cli.serve import address, listen
from detector.web import server
from detector.web.remote import RemoteSession
from tests.web import sessions
if __name__ == "__main__":
    server.HEADER_SECONDS = float(sys.argv[2])
    listener = listen("127.0.0.1", 0)
    print(address(listener), flush=True)
    session = RemoteSession(getattr(sessions, sys.argv[1]))
    run(lambda: server.serve(session, listener, "127.0.0.1") or 0)
"""


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for what another thread or process does; fail where it does not come true."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, f"not true after {seconds:g} seconds"
        sleep(0.002)


@contextmanager
def serving(session: str, header_seconds: float = 10) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Address and process of a server whose session is that function of `tests.web.sessions`."""
    command = [sys.executable, "-c", _SERVE, session, str(header_seconds)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def memory(process: int) -> int:
    """Resident kilobytes of a process and of its children."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    own = int(status.split("VmRSS:")[1].split()[0])
    children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    return own + sum(memory(int(child)) for child in children)
