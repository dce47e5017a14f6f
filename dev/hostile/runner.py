"""Run each case in a forked process with limits, and check how it ended."""

from __future__ import annotations

import io
import json
import os
import resource
import runpy
import select
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fcntl import F_SETPIPE_SZ, fcntl
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

from dev.hostile.case import Case
from tests.scripts import ROOT, forking

SECONDS = 60
MAX_BYTES = 4_000_000_000
_PIPE_BYTES = 1 << 20
_ADDRESS_SPACE = 24_000_000_000
"""Bytes of virtual memory, mostly unused: a limit that protects the machine."""


@dataclass(frozen=True)
class Outcome:
    """The end of a case: exit code, or minus the signal, seconds, bytes of memory, and what is wrong."""

    kind: str
    command: str
    code: int
    seconds: float
    n_bytes: int
    faults: list[str]


def run_all(make: Callable[..., Sequence[Case]], arguments: tuple[Any, ...], processes: int) -> list[Outcome]:
    """Return the outcomes of the cases of ``make(*arguments)``, a module-level function, in order."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        workers = []
        for number in range(processes):
            target = Path(folder) / f"{number}.json"
            work = forking().Process(target=_work, args=(make, arguments, number, processes, target))
            work.start()
            workers.append((work, target))
        found: dict[int, Outcome] = {}
        for work, target in workers:
            work.join()
            rows = json.loads(target.read_text(encoding="utf-8"))
            found |= {int(row): Outcome(**outcome) for row, outcome in rows.items()}
    return [found[row] for row in sorted(found)]


def _work(make: Callable[..., Sequence[Case]], arguments: tuple[Any, ...], first: int, step: int, target: Path) -> None:
    cases = make(*arguments)
    warm()
    outcomes = {row: vars(run_case(cases[row])) for row in range(first, len(cases), step)}
    target.write_text(json.dumps(outcomes), encoding="utf-8")


def warm() -> None:
    """Load what every case would load again: compiled kernels."""
    import detector.images.drawing  # noqa: F401 (the verbs import it)
    import tests.warm  # noqa: F401
    from detector.explanation.explainer import explain
    from tests.fakes import colored, fake_detector

    image, model = colored(), fake_detector()
    explain(model, image, model.detect(image))


def run_case(case: Case) -> Outcome:
    """Run one case in a new folder, which is deleted afterwards."""
    place = Path(tempfile.mkdtemp(prefix="hostile-case-"))
    folder = place / "in"
    folder.mkdir()
    try:
        case.write(folder)
        before = contents(folder)
        pipes = [_wide_pipe(), _wide_pipe()]
        children = [os.fork() or _child(case, folder, [writer for _, writer in pipes]) for _ in range(case.writers)]
        ends = [_wait(pid) for pid in children]
        _, errors = (_drained(*pipe) for pipe in pipes)
        code, seconds, n_bytes = max(ends, key=lambda end: (end[0] not in case.codes, end[1]))
        faults = [] if code in case.codes else [f"exit code {code}"]
        faults += ["took too long"] * (seconds >= SECONDS) + ["took too much memory"] * (n_bytes > MAX_BYTES)
        faults += faults_of_lines(case, code, errors)
        faults += [*faults_of_files(case, before, contents(folder)), *faults_of_json(folder, before)]
        words = " ".join(map(ascii, case.words))
        return Outcome(
            case.kind, f"spp {case.verb} {words}", code, seconds, n_bytes, [*faults, *([errors] if faults else [])]
        )
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _wait(pid: int) -> tuple[int, float, int]:
    """Return exit code, processor seconds and memory of a process, which is killed when its time is over."""
    descriptor = os.pidfd_open(pid)
    try:
        ended, _, _ = select.select([descriptor], [], [], SECONDS)
        if not ended:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(descriptor)
    _, status, used = os.wait4(pid, 0)
    seconds = used.ru_utime + used.ru_stime if ended else float(SECONDS)
    return os.waitstatus_to_exitcode(status), seconds, used.ru_maxrss * 1024


def _child(case: Case, folder: Path, streams: Sequence[int]) -> int:
    """Become the command; never return."""
    code = 70
    try:
        os.chdir(folder)
        os.environ.update(case.environment)
        _direct(case, streams)
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
        if case.max_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (case.max_bytes, resource.RLIM_INFINITY))
        if case.fake:
            _detect_with_a_fake()
        if case.signal is not None:
            _send(*case.signal)
        sys.argv = ["spp", case.verb, *case.words]
        runpy.run_path(str(ROOT / "detector" / "__main__.py"), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    finally:
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        except Exception:
            code = 120  # as Python ends where a stream cannot be flushed
        os._exit(code)


def _wide_pipe() -> tuple[int, int]:
    """Return a pipe that holds all output without a reader; files would count as written on a full disk."""
    reader, writer = os.pipe()
    fcntl(writer, F_SETPIPE_SZ, _PIPE_BYTES)
    return reader, writer


def _drained(reader: int, writer: int) -> str:
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        return file.read().decode("utf-8", "replace")


def _direct(case: Case, streams: Sequence[int]) -> None:
    """Connect the standard streams as the case says."""
    os.dup2(streams[1], 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace", buffering=1)  # noqa: SIM115
    if case.stdout == "closed":
        os.close(1)
        sys.stdout = None
        return
    if case.stdout == "broken":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full", os.O_WRONLY) if case.stdout == "full" else streams[0]
    os.dup2(writer, 1)
    unbuffered = "PYTHONUNBUFFERED" in case.environment
    binary: Any = io.FileIO(1, "w", closefd=False) if unbuffered else io.open(1, "wb", closefd=False)  # noqa: SIM115, UP020
    sys.stdout = io.TextIOWrapper(binary, encoding="utf-8", write_through=unbuffered)


def _detect_with_a_fake() -> None:
    from detector import ensemble
    from detector.ensemble import Ensemble
    from tests.fakes import fake_detector

    model = Ensemble([fake_detector()])
    ensemble.load_ensemble = lambda *_: model


def _send(number: int, at: int) -> None:
    """Send this process a signal when the command opens a file for the ``at``-th time."""
    from detector.cli import main

    left, run_verb = [at], main.run_verb

    def hook(event: str, _: object) -> None:
        if event == "open":
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), number)

    def watched(verb: str) -> NoReturn:
        sys.addaudithook(hook)  # only now: earlier, no code of ours has run that could report it
        run_verb(verb)

    main.run_verb = watched


def contents(folder: Path) -> dict[str, str]:
    """Return a digest of every file below a folder, and the target of every link."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)  # noqa: PTH115 (as it is written)
        elif path.is_file():
            found[name] = sha256(path.read_bytes()).hexdigest()
    return found


def faults_of_lines(case: Case, code: int, errors: str) -> list[str]:
    """Return what is wrong with the output of a command on stderr."""
    faults = [f"said {word!r}" for word in ("Traceback", "Exception ignored", "core dumped") if word in errors]
    if code != 2:
        return faults
    shown = [line for line in errors.splitlines() if line.startswith("error: ") or "; see --help" in line]
    if not shown:
        faults.append("said no error")
    elif case.named and not any(case.named in line for line in shown):
        faults.append(f"no line names {case.named!r}")
    return faults + [f"a line of {len(line)} characters" for line in shown if len(line) > 2000]


def faults_of_files(case: Case, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return which files have changed that must not, and which half-written files are left."""
    faults = [
        f"{name!r} is {'changed' if name in after else 'gone'}"
        for name, content in before.items()
        if after.get(name) != content and not name.startswith(case.changes)
    ]
    return faults + [f"{name!r} is left" for name in after if name not in before and Path(name).name.endswith(".tmp")]


def faults_of_json(folder: Path, before: Mapping[str, str]) -> list[str]:
    """Return which new files are not whole JSON."""
    faults = []
    for path in folder.rglob("*.json"):
        if path.is_file() and str(path.relative_to(folder)) not in before:
            try:
                json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                faults.append(f"{path.name!r} is not whole")
    return faults
