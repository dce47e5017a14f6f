"""The loops of a training, in their order, and how long they take compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from detector.config.detector import Config
from detector.runtime.progress import Stage

# Seconds an image, measured with the recipe `default` on two cores; of a whole loop over 20 classes for regressors.
# Only their proportions count: how fast this machine is shows while it works.
_FEATURES = 0.22
_POSITIVES = 0.02
_MINING = 0.13
_REGRESSORS = 0.03
_DETECTION = 0.3


class Training(NamedTuple):
    """How many images a training learns from, of how many of them features are missing, and of how many classes."""

    n_images: int
    n_missing: int
    n_classes: int


def training_plan(
    config: Config, trainings: Sequence[Training], n_missing_held_out: int, n_held_out: int
) -> list[Stage]:
    """The loops of trainings one after another, each with a detection in held-out images, if there are any.

    The first one is calibrated, where the recipe says so, and the others never.
    Nothing is foretold of fine-tuning, whose time depends on more than images: then the plan is empty.
    """
    if config.fine_tuning.enabled:
        return []
    plan = []
    for number, training in enumerate(trainings):
        plan += [Stage("features", training.n_missing, _FEATURES), *_learning(config, training)]
        if config.calibration.enabled and not number:
            plan += _calibration(config, training)
        if n_held_out:
            # what the first training has cached is there for the others
            missing = 0 if number else n_missing_held_out
            plan += [Stage("features", missing, _FEATURES), Stage("detect", n_held_out, _DETECTION)]
    return plan


def _calibration(config: Config, training: Training) -> list[Stage]:
    """As `detector.training.calibration` goes: SVMs that learn without a part of the images, and detection in that."""
    n_images, settings = training.n_images, config.calibration
    n_parts = min(round(1 / settings.held_out), n_images)
    taken = 1 if n_images >= settings.all_below else n_parts
    n_part = n_images // n_parts
    plan = []
    for number in range(1, taken + 1):
        plan += [Stage("positives", n_images - n_part, _POSITIVES), Stage("mining", n_images - n_part, _MINING)]
        plan.append(Stage(f"calibration {number} of {taken}", n_part, _DETECTION))
    return plan


def _learning(config: Config, training: Training) -> list[Stage]:
    n_images, n_classes = training.n_images, training.n_classes
    stages = [Stage("positives", n_images, _POSITIVES), Stage("mining", n_images, _MINING)]
    if config.regression.enabled:
        stages.append(Stage("box regressors", n_classes, _REGRESSORS * n_images / n_classes))
    return stages
