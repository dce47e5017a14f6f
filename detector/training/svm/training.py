"""The SVM stage of a training: settings of a recipe, the samples that fit into memory, mining, a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from detector.config.detector import SVMConfig
from detector.features.cache import Where
from detector.heads.linear import LinearSVMs
from detector.runtime.progress import Progress, without_progress
from detector.training.svm.dual_solver import solve_dual
from detector.training.svm.mining import MiningSettings, MiningState, load_state, mine, save_state
from detector.training.svm.parallel_miner import Crew
from detector.training.svm.problem import Solver, SVMProblem, solve_liblinear
from detector.training.svm.sample_buffer import Bank
from detector.training.training_set import TrainingSet

_SOLVERS: dict[str, Solver] = {"dual": solve_dual, "liblinear": solve_liblinear}
_SAMPLES_BYTES = 2.5e9


def train_svms(
    images: TrainingSet,
    config: SVMConfig,
    checkpoint: Path,
    progress: Progress = without_progress,
    where: Where | None = None,
) -> LinearSVMs:
    """Mine hard negatives over ``images`` and fit one linear SVM a class, for plain features.

    The state after every fit is kept in the file ``checkpoint``, from which a second call goes on. ``where`` is who
    scores the images, if not this process.
    """
    images = replace(images, flips=bool(config.flips))
    bank = Bank(sample_capacity(config, images.n_features), images.n_features, images.n_classes)
    state = load_state(checkpoint, images, bank) or MiningState(bank)
    solver, report = _SOLVERS[config.solver], partial(save_state, checkpoint)
    settings = mining_settings(config)
    crew = None if where is None else Crew(images, settings, where)
    try:
        svms = mine(images, svm_problem(config), solver, settings, state, progress, report, crew)
    finally:
        if crew is not None:
            crew.close()
    return LinearSVMs(*images.unscaled(svms.weights, svms.biases))


def sample_capacity(config: SVMConfig, n_features: int) -> int:
    """How many samples are kept for all classes together."""
    return config.max_samples or int(_SAMPLES_BYTES / np.dtype(np.float16).itemsize / n_features)


def svm_problem(config: SVMConfig) -> SVMProblem:
    """The constants of the problem that a recipe gives."""
    return SVMProblem(
        loss=config.loss,
        C=config.C,
        positive_weight=config.positive_weight,
        bias_multiplier=config.bias_multiplier,
    )


def mining_settings(config: SVMConfig) -> MiningSettings:
    """The constants of mining that a recipe gives."""
    return MiningSettings(
        add_above=config.add_above,
        evict_below=config.evict_below,
        max_per_image=config.max_negatives_per_image,
        seed=config.seed,
    )
