"""Train the SVMs of a recipe: mining with a solver, a buffer that fits into memory, and a checkpoint."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.config.detector import SVMConfig
from detector.features.cache import CacheWorkers
from detector.heads.linear import LinearSVMs
from detector.runtime.progress import Progress, no_progress
from detector.training.background import Background
from detector.training.svm.dual_solver import solve_dual
from detector.training.svm.mining import MiningState, load_state, mine, save_state
from detector.training.svm.parallel_miner import ParallelMiner
from detector.training.svm.problem import Solver, solve_liblinear
from detector.training.svm.sample_buffer import SampleBuffer
from detector.training.training_set import TrainingSet

_SOLVERS: dict[str, Solver] = {"dual": solve_dual, "liblinear": solve_liblinear}
_BUFFER_BYTES = 2.5e9
_REFIT_TOLERANCE = 1e-2
"""Relative duality gap of SVMs that only score held-out images."""


@dataclass(frozen=True)
class TrainedSVMs:
    """Result of a mining pass: the SVMs for unscaled features, and the samples they were fitted to.

    images: with the scaled features of the samples; mirrored images count as images of their own.
    """

    svms: LinearSVMs
    images: TrainingSet
    config: SVMConfig
    buffer: SampleBuffer

    def without(self, rows: NDArray[np.int64]) -> LinearSVMs:
        """Return SVMs fitted again without the samples of the images at ``rows``; nothing is mined again."""
        images = self.buffer.keys[:, 0]
        of_data = images < self.images.n_images
        left_out = of_data & np.isin(images % len(self.images.annotations), rows)
        targets, duals = self.buffer.targets.copy(), self.buffer.duals.copy()
        targets[left_out], duals[left_out] = 0, 0
        svms = _SOLVERS[self.config.solver](self.config, self.buffer.features, targets, duals, _REFIT_TOLERANCE)
        return LinearSVMs(*self.images.unscaled(svms.weights, svms.biases))


def train_svms(
    images: TrainingSet,
    config: SVMConfig,
    checkpoint: Path,
    progress: Progress = no_progress,
    workers: CacheWorkers | None = None,
    background: Background | None = None,
) -> TrainedSVMs:
    """Mine hard negatives over ``images`` and fit one linear SVM per class.

    checkpoint: file of the state after every fit; a second call resumes from it.
    workers: they score the images, by default this process.
    background: also gives negatives.
    """
    images = replace(images, flips=bool(config.flips), background=background)
    buffer = SampleBuffer(sample_capacity(config, images.n_features), images.n_features, images.n_classes)
    state = load_state(checkpoint, images, buffer) or MiningState(buffer)
    with ExitStack() as stack:
        sampler = None if workers is None else stack.enter_context(closing(ParallelMiner(images, config, workers)))
        report = partial(save_state, checkpoint)
        svms = mine(images, config, _SOLVERS[config.solver], state, progress, report, sampler)
    return TrainedSVMs(LinearSVMs(*images.unscaled(svms.weights, svms.biases)), images, config, buffer)


def sample_capacity(config: SVMConfig, n_features: int) -> int:
    """Return how many samples the buffer of all classes holds."""
    return config.max_samples or int(_BUFFER_BYTES / np.dtype(np.float16).itemsize / n_features)
