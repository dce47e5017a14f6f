"""The loops of a plan are those of a training, in their order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from detector.config.detector import Config, parse_config
from detector.datasets.dataset import Dataset
from detector.runs.forecast import TrainingSize, training_plan
from detector.training.train import train
from detector.training.training_set import TrainingSet


@pytest.mark.all
def test_a_training_goes_through_the_planned_loops(config: Config, train_set: Dataset, images: TrainingSet) -> None:
    loops = []

    def progress(items: Iterable[Any], title: str) -> Iterable[Any]:
        items = list(items)
        loops.append((title, len(items)))
        return items

    calibration = config.calibration.model_copy(update={"held_out": 0.5, "enabled": True})
    proposal_filter = config.proposal_filter.model_copy(update={"enabled": True, "images": 20})
    config = config.model_copy(update={"calibration": calibration, "proposal_filter": proposal_filter})
    train(config, train_set, train_set.class_names, images.cache, progress)
    plan = training_plan(config, [TrainingSize(24, 0, 3)], 0, 0)
    assert [(task.title, task.n_items) for task in plan] == loops


def test_svms_go_through_mirrored_images() -> None:
    plan = training_plan(parse_config({"svm": {"flips": True}}, "test"), [TrainingSize(10, 4, 2)], 0, 0)
    assert [(task.title, task.n_items) for task in plan][:5] == [
        ("features", 4),
        ("features of mirror images", 4),
        ("positives", 20),
        ("mining", 20),
        ("box regressors", 2),
    ]


@pytest.mark.parametrize(("n_images", "parts"), [(9, 5), (10, 1)])
def test_of_many_images_one_part_calibrates(n_images: int, parts: int) -> None:
    config = parse_config({"calibration": {"cross_validate_below": 10}}, "test")
    plan = training_plan(config, [TrainingSize(n_images, 0, 2)], 0, 0)
    assert sum(task.title.startswith("cross-validation") for task in plan) == parts


def test_regressors_take_as_long_as_there_are_images_however_many_classes() -> None:
    for n_classes in (2, 20):
        (task,) = [
            each for each in training_plan(Config(), [TrainingSize(8, 0, n_classes)], 0, 0) if "box" in each.title
        ]
        assert task.n_items == n_classes
        assert task.n_items * task.seconds == pytest.approx(8 * 0.03)


def test_trainings_on_parts_are_not_calibrated() -> None:
    plan = training_plan(Config(), [TrainingSize(8, 5, 2), TrainingSize(4, 0, 2)], 3, 4)
    assert [(task.title, task.n_items) for task in plan if task.title in ("features", "detect")] == [
        *(("features", 5), ("features", 3), ("detect", 4)),
        *(("features", 0), ("features", 0), ("detect", 4)),
    ]
    folds = [task.title for task in plan if task.title.startswith("cross-validation")]
    assert folds == [f"cross-validation {number} of 5" for number in range(1, 6)]
    fine_tuned = Config().fine_tuning.model_copy(update={"enabled": True})
    assert training_plan(Config(fine_tuning=fine_tuned), [TrainingSize(8, 5, 2)], 0, 0) == []
