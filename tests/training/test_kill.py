"""Caching and training killed again and again, at random points, end with the same model bytes."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from detector.build import build_cache
from detector.config.detector import parse_config
from detector.datasets.loading import load_voc
from detector.training.train import train
from tests.scripts import forking
from tests.synthetic import SYNTHETIC_CLASSES, write_synthetic_voc

CONFIG = {
    "features": {"short_sides": [160], "levels": [2, 1]},
    "proposals": {"max_boxes": 50, "min_side": 16},
    # few new samples make the bank grow by half again and again: many fits, many checkpoints
    "svm": {"loss": "squared_hinge", "C": 0.01, "max_negatives_per_image": 4, "center": True},
    "calibration": {"enabled": False},
}
N_IMAGES, N_KILLS = 20, 20


def train_model(root: Path, cache: Path, model: Path) -> None:
    """What the child processes do: fill the cache and train."""
    dataset = load_voc(root, "train", SYNTHETIC_CLASSES)
    config = parse_config(CONFIG, "test")
    train(config, dataset, dataset.class_names, build_cache(config, cache)).save(model)


@pytest.mark.all
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    write_synthetic_voc(tmp_path / "voc", N_IMAGES, seed=3)

    def run(folder: Path, seconds: float | None) -> bool:
        """Whether training came to its end before it was killed after so many seconds."""
        child = forking().Process(target=train_model, args=(tmp_path / "voc", folder / "cache", folder / "model"))
        child.start()
        child.join(seconds)
        if child.is_alive():
            child.kill()
            child.join()
        assert child.exitcode in (0, -signal.SIGKILL)
        return child.exitcode == 0

    assert run(tmp_path / "warm", None)  # compiles
    start = time.monotonic()
    assert run(tmp_path / "undisturbed", None)
    longest = time.monotonic() - start
    expected = (tmp_path / "undisturbed" / "model").read_bytes()
    times = random.Random(0)
    kills = attempts = 0
    while kills < N_KILLS:
        attempts += 1
        folder = tmp_path / f"disturbed{attempts}"
        while not run(folder, times.uniform(0.05, 0.7 * longest) if kills < N_KILLS else None):
            kills += 1
        assert (folder / "model").read_bytes() == expected
        assert attempts < 3 * N_KILLS
    print(f"{kills} kills in {attempts} trainings of {longest:.1f} s")
