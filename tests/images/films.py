"""Films with known content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
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


class FakeCapture:
    """A camera of 50 frames, which are as bright as their number."""

    def __init__(self, n_frames: int = 50, broken: tuple[int, ...] = ()) -> None:
        self.n_frames, self.broken, self.at = n_frames, broken, -1

    def get(self, name: int) -> float:
        values = {cv2.CAP_PROP_FPS: 10, cv2.CAP_PROP_FRAME_WIDTH: 16, cv2.CAP_PROP_FRAME_HEIGHT: 8}
        return values.get(name, self.n_frames if name == cv2.CAP_PROP_FRAME_COUNT else 0)

    def grab(self) -> bool:
        self.at += 1
        return self.at < self.n_frames

    def retrieve(self) -> Any:
        return self.at not in self.broken, np.full((8, 16, 3), self.at, np.uint8)
