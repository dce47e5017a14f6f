"""Every key of a recipe that says something about training reaches the code."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from shutil import copytree
from typing import Any

from detector.config.detector import FineTuningConfig, SVMConfig, parse_config
from detector.config.recipes import Section
from detector.datasets.dataset import Dataset
from detector.training.calibration import held_out_parts
from detector.training.end_to_end.fc_layers import fine_tuning_settings
from detector.training.svm.training import mining_settings, svm_problem
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
    assert read == {name: set(type(getattr(config, name)).model_fields) for name in SECTIONS}


def test_values_reach_the_constants_of_their_names() -> None:
    given: dict[str, Any] = {"width": 7, "iterations": 9, "lr": 0.5, "lr_steps": (0.3, 0.4), "momentum": 0.2}
    given |= {"weight_decay": 0.1, "dropout": 0.7, "batch_size": 11, "seed": 13}
    settings = asdict(fine_tuning_settings(FineTuningConfig(**given)))
    assert settings == given | {"images_per_round": 64, "boxes_per_image": 64, "rounds_per_snapshot": 15}
    problem: dict[str, Any] = {"loss": "squared_hinge", "C": 0.5, "positive_weight": 3.0, "bias_multiplier": 4.0}
    assert asdict(svm_problem(SVMConfig(**problem))) == problem
    mining = mining_settings(SVMConfig(add_above=-0.5, evict_below=-0.7, max_negatives_per_image=17, seed=19))
    assert (mining.add_above, mining.evict_below, mining.max_per_image, mining.seed) == (-0.5, -0.7, 17, 19)


def test_the_learning_rate_falls_at_the_fractions_of_a_recipe() -> None:
    """Rounds and fractions are compared as numbers, without a tolerance: 7 of 70 rounds are a tenth of them."""
    settings = fine_tuning_settings(FineTuningConfig(iterations=700, lr=0.5, lr_steps=(0.0, 0.1, 0.6, 1.0)))
    schedule = settings.schedule(10)
    assert schedule.n_rounds == 70
    for number in range(70):
        falls = sum(number / 70 >= step for step in (0.0, 0.1, 0.6, 1.0))
        assert schedule.rate(number) == 0.5 * 0.1**falls
