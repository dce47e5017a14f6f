"""Train the SVMs of a recipe: mining with a solver, a buffer that fits into memory, and a checkpoint."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from detector.config.detector import SVMConfig
from detector.features.cache import CacheWorkers
from detector.heads.linear import LinearSVMs
from detector.runtime.progress import Progress, no_progress
from detector.training.svm.dual_solver import solve_dual
from detector.training.svm.mining import MiningState, load_state, mine, save_state
from detector.training.svm.parallel_miner import ParallelMiner
from detector.training.svm.problem import Solver, solve_liblinear
from detector.training.svm.sample_buffer import SampleBuffer
from detector.training.training_set import TrainingSet

_SOLVERS: dict[str, Solver] = {"dual": solve_dual, "liblinear": solve_liblinear}
_BUFFER_BYTES = 2.5e9


def train_svms(
    images: TrainingSet,
    config: SVMConfig,
    checkpoint: Path,
    progress: Progress = no_progress,
    workers: CacheWorkers | None = None,
) -> LinearSVMs:
    """Mine hard negatives over ``images`` and fit one linear SVM per class; return them for unscaled features.

    checkpoint: file of the state after every fit; a second call resumes from it.
    workers: they score the images, by default this process.
    """
    images = replace(images, flips=bool(config.flips))
    buffer = SampleBuffer(sample_capacity(config, images.n_features), images.n_features, images.n_classes)
    state = load_state(checkpoint, images, buffer) or MiningState(buffer)
    with ExitStack() as stack:
        sampler = None if workers is None else stack.enter_context(closing(ParallelMiner(images, config, workers)))
        report = partial(save_state, checkpoint)
        svms = mine(images, config, _SOLVERS[config.solver], state, progress, report, sampler)
    return LinearSVMs(*images.unscaled(svms.weights, svms.biases))


def sample_capacity(config: SVMConfig, n_features: int) -> int:
    """Return how many samples the buffer of all classes holds."""
    return config.max_samples or int(_BUFFER_BYTES / np.dtype(np.float16).itemsize / n_features)
