"""Films with known content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.images.film import film_writer
from tests.fakes import colored

FPS = 10
BLACK = np.zeros((160, 160, 3), np.uint8)


def frames(n_frames: int, red_every: int = 1) -> list[NDArray[np.uint8]]:
    """`colored` in each ``red_every``-th frame, from the first on, and black in the others."""
    return [colored() if number % red_every == 0 else BLACK for number in range(n_frames)]


def write_film(path: Path, n_frames: int, red_every: int = 1) -> Path:
    with film_writer(path, FPS) as add:
        for each in frames(n_frames, red_every):
            add(each)
    return path


def write_cut_film(path: Path, n_frames: int = 60) -> Path:
    """A film whose last third is missing. Noise, so that each frame takes its share of the file."""
    random = np.random.default_rng(0)
    with film_writer(path, FPS) as add:
        for _ in range(n_frames):
            add(random.integers(0, 256, (160, 160, 3)).astype(np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: 2 * len(content) // 3])
    return path
