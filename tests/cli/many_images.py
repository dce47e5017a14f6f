"""Many images to detect in, and what a folder holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detector.images.files import write_image
from tests.fakes import colored


def write_images(folder: Path, count: int) -> Path:
    """So many images: every fourth is black, every fifth is none."""
    folder.mkdir()
    for number in range(count):
        image = colored() // (1 + number % 3) if number % 4 else np.zeros((160, 160, 3), np.uint8)
        write_image(folder / f"{number}.png", image)
        if number % 5 == 4:
            (folder / f"{number}.png").write_bytes(b"none")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
