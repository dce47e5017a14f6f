"""Fixtures: images that packages ship, real VOC2007 where the machine has it, and training on synthetic images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from skimage.data import chelsea

from detector.datasets.dataset import Dataset
from tests.synthetic import write_synthetic_voc

if TYPE_CHECKING:  # fixtures import the detector themselves, so that not every test waits for torch and numba
    from detector.config.detector import Config
    from detector.pipeline import Detector
    from detector.training.training_set import TrainingSet

# kernels compile on their first example, so a deadline would time the compiler
settings.register_profile("detector", deadline=None)
settings.load_profile("detector")


@pytest.fixture(scope="session")
def voc_root() -> Path:
    """VOC2007 from DETECTOR_VOC, or from a folder shared/voc2007 next to the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "voc2007"
    root = Path(os.environ.get("DETECTOR_VOC", default))
    if not (root / "JPEGImages").is_dir():
        pytest.skip(f"no VOC2007 images: set DETECTOR_VOC to their folder (looked in {root})")
    return root


@pytest.fixture(scope="session")
def cat() -> NDArray[np.uint8]:
    """A real photograph, (300, 451, 3) uint8 RGB."""
    return chelsea()


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VOC folder with synthetic lists train (24 images) and test (10)."""
    root = tmp_path_factory.mktemp("synthetic")
    write_synthetic_voc(root, 24, seed=1, split="train")
    write_synthetic_voc(root, 10, seed=2, split="test")
    return root


@pytest.fixture(scope="session")
def train_set(root: Path) -> Dataset:
    return write_synthetic_voc(root, 24, seed=1, split="train")


@pytest.fixture(scope="session")
def test_set(root: Path) -> Dataset:
    return write_synthetic_voc(root, 10, seed=2, split="test")


@pytest.fixture(scope="session")
def config() -> Config:
    from detector.config.detector import parse_config
    from tests.fakes import CONFIG

    return parse_config(CONFIG, "test")


@pytest.fixture(scope="session")
def images(train_set: Dataset, config: Config, tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    from detector.build import build_cache
    from detector.features.cache import fill_cache
    from detector.training.training_set import TrainingSet

    cache = build_cache(config, tmp_path_factory.mktemp("cache"))
    fill_cache(cache, train_set)
    return TrainingSet(train_set.annotations, 3, cache)


@pytest.fixture(scope="session")
def detector(train_set: Dataset, config: Config, images: TrainingSet) -> Detector:
    from detector.training.train import train

    return train(config, train_set, train_set.class_names, images.cache)
