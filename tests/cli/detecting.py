"""The command that detects, with a detector that takes no time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from detector.heads.calibration import PRECISIONS, Calibration
from detector.images.files import write_image
from tests.fakes import colored

Call = Callable[..., int]

# scores of `colored`: red 150 twice (one box next to the other), green 100
CALIBRATION = Calibration(
    np.array([0.01, 0.1]), np.array([0, -5]), np.array([120, 101]), np.full((PRECISIONS, 2), [140.0, np.inf])
)


def photograph(path: Path, image: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, colored() if image is None else image)
    return path


RED, GREEN = [0.0, 0.0, 64.0, 64.0], [96.0, 0.0, 160.0, 64.0]
