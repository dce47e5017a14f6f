"""Memory, descriptors and threads over many images: in one process, in workers, and of the page under load.

Each kind of work runs in turn over a few drawn images again and again. A tenth of the work is a row of the table, the
first one being the warm-up. Growth of memory from the second row to the last one by more than the limit is a leak, and
so is any growth of descriptors or threads; then the exit code is 1.
"""

from __future__ import annotations

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.machine import machine
from detector.ensemble import load_ensemble
from detector.images.files import write_image
from detector.parallel.map_images import Engine, Sequential, map_images
from detector.parallel.processes import Processes
from detector.runs.detect_images import DetectorFactory

_ROWS = 10
_LOOKS, _PAUSE = 5, 0.1  # seconds; a server closes a connection after its client
_KINDS = ("process", "workers", "page")


class Use(NamedTuple):
    """Megabytes, open descriptors and threads of a process and of its children, together."""

    megabytes: float
    descriptors: int
    threads: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=1000, metavar="N", help="images of each kind (default: 1000)")
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=_KINDS, help="default: all")
    parser.add_argument("--model", type=Path, help="model file (default: that of the package)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes of workers (default: 2)")
    parser.add_argument("--side", type=int, default=160, metavar="S", help="pixels of an image's side (default: 160)")
    parser.add_argument("--limit", type=float, default=50, metavar="MB", help="growth that is a leak (default: 50)")


def measure(options: argparse.Namespace) -> int:
    print(f"{machine()}\n{options.images} images of {options.side} x {options.side}")
    print("\n| work | images | memory, MB | descriptors | threads |\n| --- | ---: | ---: | ---: | ---: |")
    leaks = []
    with tempfile.TemporaryDirectory() as name:
        images = draw(Path(name), options.side)
        for kind in options.kinds:
            with _work(kind, images, options) as (step, process):
                uses = []
                for row in range(1, _ROWS + 1):
                    step(options.images // _ROWS)
                    uses.append(settled_use_of(process))
                    print(f"| {kind} | {row * (options.images // _ROWS)} | {_cells(uses[-1])} |", flush=True)
            leaks += [f"{kind}: {each}" for each in leaks_in(uses, options.limit)]
    print("\n" + ("\n".join(leaks) or "no leak"))
    return int(bool(leaks))


def _cells(use: Use) -> str:
    return f"{use.megabytes:.0f} | {use.descriptors} | {use.threads}"


def leaks_in(uses: list[Use], limit: float) -> list[str]:
    """Return what grew from the second use, after the warm-up, to the last one, in a line each."""
    first, last = uses[min(1, len(uses) - 1)], uses[-1]
    grown = [f"memory grew by {last.megabytes - first.megabytes:.0f} MB"] * (last.megabytes - first.megabytes > limit)
    for name in ("descriptors", "threads"):
        before, after = getattr(first, name), getattr(last, name)
        grown += [f"{name} grew from {before} to {after}"] * (after > before)
    return grown


def draw(folder: Path, side: int) -> list[Path]:
    """Write a few images of noise and squares to a folder, and one that is damaged; return their paths."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(8)]
    for number, path in enumerate(paths):
        image = rng.integers(0, 60, (side, side, 3)).astype(np.uint8)
        image[number : side // 2, side // 4 : side // 2 + 2 * number] += np.uint8(20 * number)
        write_image(path, image)
    paths[-1].write_bytes(paths[-1].read_bytes()[:-100])
    return paths


@contextmanager
def _work(kind: str, images: list[Path], options: argparse.Namespace) -> Iterator[tuple[Callable[[int], None], int]]:
    """Yield a function that works on as many images as it is asked for, and the process to measure."""
    if kind == "page":
        with _page(options.model) as (port, process):
            bodies = cycle([path.read_bytes() for path in images])
            yield partial(_ask, port, bodies), process
        return
    engine: Engine = Sequential() if kind == "process" else Processes(options.workers)
    factory = DetectorFactory(partial(load_ensemble, options.model and [options.model]), _default_thresholds)
    results = map_images(factory, map(str, cycle(images)), engine)
    try:
        yield lambda count: deque(islice(results, count), maxlen=0).clear(), os.getpid()
    finally:
        results.close()


def _default_thresholds(model: object) -> None:
    return None


@contextmanager
def _page(model: Path | None) -> Iterator[tuple[int, int]]:
    """Yield port and process of a server of the page."""
    words = [
        sys.executable,
        "-P",
        "-m",
        "detector",
        "serve",
        "--port",
        "0",
        *(["--model", str(model)] if model else []),
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline().split(" ")[0].rsplit(":", 1)[1]), server.pid
        finally:
            server.terminate()


def _ask(port: int, bodies: Iterator[bytes], count: int) -> None:
    """Detect in images and explain a box in each as the page does, on connections of their own."""
    for body in islice(bodies, count):
        for method, path in (("POST", "/detect"), ("POST", "/explain?box=1,1,80,80&class=person"), ("GET", "/health")):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request(method, path, body if method == "POST" else None)
            answer = connection.getresponse()
            answer.read()
            connection.close()
            if answer.status >= 500:
                raise RuntimeError(f"{path}: the page answered {answer.status}")


def settled_use_of(process: int) -> Use:
    """Return the least use of a process in half a second: what it is just closing does not count."""
    looks = []
    for _ in range(_LOOKS):
        time.sleep(_PAUSE)
        looks.append(use_of(process))
    return Use(*map(min, zip(*looks, strict=True)))


def use_of(process: int) -> Use:
    """Return what a process and its children use now, by Linux' /proc; children that end meanwhile count as nothing."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
        descriptors = len(os.listdir(f"/proc/{process}/fd"))  # noqa: PTH208 (names alone)
        tasks = Path(f"/proc/{process}/task")
        children = [each for task in tasks.iterdir() for each in (task / "children").read_text().split()]
    except OSError:
        return Use(0, 0, 0)
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    own = Use(int(values.get("VmRSS", "0 kB").split()[0]) / 1000, descriptors, int(values["Threads"]))
    return Use(*map(sum, zip(own, *(use_of(int(child)) for child in children), strict=True)))
