"""A real `spp teach` in a process of its own, and images to label."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from detector.images.files import write_image
from tests.web.serving import ENVIRONMENT


def write_boards(folder: Path, count: int) -> dict[str, list[tuple[str, list[int]]]]:
    """Write boards with round and square pieces; return names and corners of the pieces by file name."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:240, :320]
    pieces: dict[str, list[tuple[str, list[int]]]] = {}
    for number in range(count):
        image = (90 + 50 * ((x // 40 + y // 40) % 2)[..., None] + rng.integers(0, 25, (240, 320, 3))).astype(np.uint8)
        name = f"board_{number:02}.png"
        pieces[name] = []
        for cell in rng.choice(8, 3, replace=False).tolist():
            left, top = cell % 4 * 80 + int(rng.integers(8, 24)), cell // 4 * 120 + int(rng.integers(8, 48))
            kind = "round" if rng.integers(2) else "square"
            inside = np.s_[top : top + 48, left : left + 48]
            off = (y[inside] - top - 23.5) ** 2 + (x[inside] - left - 23.5) ** 2
            shape = off < 24**2 if kind == "round" else np.ones((48, 48), bool)
            image[inside][shape] = (200, 40, 40) if kind == "round" else (30, 30, 160)
            image[inside][off < 8**2] = (240, 230, 90)
            pieces[name].append((kind, [left, top, left + 48, top + 48]))
        write_image(folder / name, image)
    return pieces


@contextmanager
def teaching(photos: Path, project: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Address and process of a server; it is killed at the end, as by a power cut."""
    command = [sys.executable, "-m", "detector", "teach", str(photos), "--project", str(project), "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[0], process
        finally:
            process.kill()
