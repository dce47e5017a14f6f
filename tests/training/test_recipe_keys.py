"""Every key of the training sections of a recipe is read."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

from detector.config.detector import FineTuningConfig, parse_config
from detector.config.recipes import Section
from detector.datasets.dataset import Dataset
from detector.training.calibration import held_out_parts
from detector.training.end_to_end.fc_layers import fine_tuning_schedule
from detector.training.train import train
from detector.training.training_set import TrainingSet
from tests.fakes import CONFIG

SECTIONS = ("fine_tuning", "svm", "regression", "calibration")


def recording(section: Section, read: set[str]) -> Any:
    """A section that notes which of its keys are read."""
    kind: Any = type(section)

    class Recording(kind):
        def __getattribute__(self, name: str) -> Any:
            if name in kind.model_fields:
                read.add(name)
            return super().__getattribute__(name)

    return Recording.model_construct(**dict(section))


def test_training_reads_every_key(train_set: Dataset, images: TrainingSet, tmp_path: Path) -> None:
    cache = replace(images.cache, directory=tmp_path / "cache")  # of its own, for the states that it leaves there
    copytree(images.cache.directory, cache.directory)
    tuned = {"enabled": True, "width": 16, "iterations": 64, "batch_size": 64, "held_out": 0.2}
    config = parse_config({**CONFIG, "fine_tuning": tuned, "calibration": {"enabled": True}}, "test")
    read: dict[str, set[str]] = defaultdict(set)
    watched = {name: recording(getattr(config, name), read[name]) for name in SECTIONS}
    train(config.model_copy(update=watched), train_set, train_set.class_names, cache)
    # fine-tuning holds images out itself
    held_out_parts(images, recording(config.calibration, read["calibration"]))
    expected = {name: set(type(getattr(config, name)).model_fields) for name in SECTIONS}
    expected["regression"].remove("fit")  # for end-to-end training
    assert read == expected


def test_the_learning_rate_falls_at_the_fractions_of_a_recipe() -> None:
    """Rounds and fractions are compared as numbers, without a tolerance: 7 of 70 rounds are a tenth of them."""
    schedule = fine_tuning_schedule(FineTuningConfig(iterations=700, lr=0.5, lr_steps=(0.0, 0.1, 0.6, 1.0)), 10)
    assert schedule.n_rounds == 70
    for number in range(70):
        falls = sum(number / 70 >= step for step in (0.0, 0.1, 0.6, 1.0))
        assert schedule.rate(number) == 0.5 * 0.1**falls
