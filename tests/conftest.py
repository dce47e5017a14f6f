"""Fixtures: pictures that packages ship, and real VOC2007 where the machine has it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from skimage import data as pictures

# kernels compile on their first example, so a deadline would time the compiler
settings.register_profile("detector", deadline=None)
settings.load_profile("detector")


@pytest.fixture(scope="session")
def voc_root() -> Path:
    """VOC2007 from DETECTOR_VOC, or from a folder shared/voc2007 beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "voc2007"
    root = Path(os.environ.get("DETECTOR_VOC", default))
    if not (root / "JPEGImages").is_dir():
        pytest.skip(f"no VOC2007 pictures: set DETECTOR_VOC to their folder (looked in {root})")
    return root


@pytest.fixture(scope="session")
def cat() -> NDArray[np.uint8]:
    """A real photograph, (300, 451, 3) uint8 RGB."""
    return pictures.chelsea()
