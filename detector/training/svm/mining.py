"""Hard-negative mining: all classes in one pass over the images, with one shared sample buffer.

Positives are the ground-truth boxes of a class; negatives are boxes that overlap no object of the class by 0.3 or more
(paper, section 4.1; release: spp_train). A sample that is hard for several classes is stored once.

All boxes of an image are pooled and scored a block at a time, while their features are in the processor's cache; only
the hardest boxes are pooled again to be stored::

    mine -> ImageSamples.scores(svms) -> RegionEncoder.apply: for each block of boxes, on all threads,
        cells of the cached maps -> pyramid pooling -> TrainingSet.scale_features -> svms.decision_function
    hardest boxes -> ImageSamples.features(rows) -> SampleBuffer.add -> solver -> svms
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.config.detector import SVMConfig
from detector.heads.linear import LinearSVMs
from detector.runtime.array_files import Arrays, stored_arrays, write_arrays
from detector.runtime.progress import Progress, no_progress
from detector.training.svm.problem import Solver, objectives
from detector.training.svm.sample_buffer import SampleBuffer
from detector.training.training_set import ImageSamples, TrainingSet

START_IMAGES = 50
"""The first images give random negatives to start with."""
START_SAMPLES = 100
"""Number of random negatives of each of the first images."""
GROWTH = 0.5
"""The SVMs are fitted again when the buffer has grown by this fraction, or is full."""
TOLERANCE = 1e-3
"""Relative duality gap of a fit."""

_KEPT_WHEN_FULL = 0.75
_ROWS = 2048
_STATE_ARRAYS = ("keys", "duals", "weights", "biases", "next_image")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NewSamples:
    """Samples of an image to add: rows ``(n,)``, ascending, with their targets ``(n, K)`` and features ``(n, D)``.

    hardness: ``(n,)`` float32, the largest score by an SVM that they are negatives of; infinite for positives.
    """

    rows: NDArray[np.int64]
    hardness: NDArray[np.float32]
    targets: NDArray[np.int8]
    features: NDArray[np.floating]

    def hardest(self, count: int, samples: ImageSamples) -> NewSamples:
        """Return the ``count`` hardest of them."""
        kept = np.sort(np.argsort(-self.hardness, kind="stable")[:count])
        return _new_samples(samples, self.rows[kept], self.hardness[kept])


Sampler = Callable[[int, LinearSVMs | None, SampleBuffer], NewSamples]
"""Returns what `sample_image` does for an image, by its index; images are asked for in their order."""


@dataclass
class MiningState:
    """Position of a pass: the buffer, the next image, the number of samples added since the last fit, and its SVMs."""

    buffer: SampleBuffer
    next_image: int = 0
    added: int = 0
    svms: LinearSVMs | None = None


def mine(
    images: TrainingSet,
    config: SVMConfig,
    solver: Solver,
    state: MiningState,
    progress: Progress = no_progress,
    report: Callable[[MiningState], None] | None = None,
    sampler: Sampler | None = None,
) -> LinearSVMs:
    """Train one linear SVM per class in one pass over ``images``.

    state: one with an empty buffer, or one that ``report`` was called with after a fit of an earlier pass; the pass
        resumes from there to the same result.
    sampler: samples the images, by default `sample_image` in this process.
    Raises ValueError if a class has no positive.
    """
    sampler = sampler or partial(sample_image, images, config)
    if state.svms is None:
        _fill_start(images, state.buffer, config, progress, sampler)
        missing = np.flatnonzero(~(state.buffer.targets > 0).any(0))
        if len(missing):
            raise ValueError(f"no box of class {', '.join(map(str, missing))} to train on")
        refit(state, config, solver, report)
    for index in progress(range(state.next_image, len(images)), "mining"):
        add_hard_negatives(images, index, state, sampler)
        state.next_image = index + 1
        grown = state.added >= GROWTH * (state.buffer.size - state.added)
        if state.added and (grown or state.buffer.free < config.max_negatives_per_image):
            refit(state, config, solver, report)
    buffer = state.buffer
    return solver(config, buffer.features, buffer.targets, buffer.duals, TOLERANCE)


def sample_image(
    images: TrainingSet, config: SVMConfig, index: int, svms: LinearSVMs | None, buffer: SampleBuffer
) -> NewSamples:
    """Return the hardest negatives of an image that are not in the buffer or, without SVMs, its positives."""
    if svms is None:
        return positives(images[index])
    return hardest_negatives(images[index], svms, buffer.rows_of(index), config)


def positives(samples: ImageSamples) -> NewSamples:
    """Return the objects of an image."""
    rows = np.flatnonzero((samples.targets > 0).any(1))
    return _new_samples(samples, rows, np.full(len(rows), np.inf, np.float32))


def hardest_negatives(
    samples: ImageSamples, svms: LinearSVMs, known: NDArray[np.int64], config: SVMConfig
) -> NewSamples:
    """Return the hardest negatives of an image above the margin ``add_above``, without the rows ``known``."""
    hardness = np.where(samples.targets < 0, samples.scores(svms), -np.inf).max(1)
    hardness[known] = -np.inf
    rows = np.argsort(-hardness, kind="stable")[: config.max_negatives_per_image]
    rows = np.sort(rows[hardness[rows] > config.add_above])
    return _new_samples(samples, rows, hardness[rows])


def _new_samples(samples: ImageSamples, rows: NDArray[np.int64], hardness: NDArray[np.float32]) -> NewSamples:
    return NewSamples(rows, hardness, samples.targets[rows], samples.features(rows))


def _fill_start(
    images: TrainingSet, buffer: SampleBuffer, config: SVMConfig, progress: Progress, sampler: Sampler
) -> None:
    rng = np.random.default_rng(config.seed)
    for index in progress(range(len(images)), "positives"):
        if index >= START_IMAGES:
            new = sampler(index, None, buffer)
            buffer.add(new.features, new.targets, index, new.rows)
            continue
        samples = images[index]
        rows = np.flatnonzero((samples.targets > 0).any(1))
        negatives = np.flatnonzero((samples.targets < 0).any(1) & ~(samples.targets > 0).any(1))
        drawn = rng.choice(negatives, min(START_SAMPLES, len(negatives)), replace=False)
        rows = np.concatenate([rows, np.sort(drawn)])
        buffer.add(samples.features(rows), samples.targets[rows], index, rows)


def add_hard_negatives(images: TrainingSet, index: int, state: MiningState, sampler: Sampler) -> None:
    """Add the hardest negatives of an image, as many as fit."""
    buffer = state.buffer
    new = sampler(index, state.svms, buffer)
    if len(new.rows) > buffer.free:
        new = new.hardest(buffer.free, images[index])
    buffer.add(new.features, new.targets, index, new.rows)
    state.added += len(new.rows)


def refit(
    state: MiningState,
    config: SVMConfig,
    solver: Solver,
    report: Callable[[MiningState], None] | None = None,
    tolerance: float = TOLERANCE,
) -> None:
    """Fit the SVMs to the buffer, then evict easy negatives."""
    buffer = state.buffer
    state.svms = solver(config, buffer.features, buffer.targets, buffer.duals, tolerance)
    parts = np.split(buffer.features, range(_ROWS, buffer.size, _ROWS))
    scores = np.concatenate([state.svms.decision_function(rows.astype(np.float32)) for rows in parts])
    objective = objectives(config, state.svms, scores, buffer.targets).sum()
    _log.debug("%d samples of %d images: objective %.3f", buffer.size, state.next_image, objective)
    hardest = np.where(buffer.targets < 0, scores, -np.inf).max(1)
    positive = (buffer.targets > 0).any(1)
    keep = positive | (hardest >= config.evict_below)
    # a full buffer drops its easiest negatives, too, to make room
    allowed = int(buffer.capacity * _KEPT_WHEN_FULL)
    if keep.sum() > allowed:
        order = np.argsort(-np.where(positive, np.inf, hardest), kind="stable")
        keep[order[max(allowed, int(positive.sum())) :]] = False
    buffer.keep(np.flatnonzero(keep))
    state.added = 0
    if report:
        report(state)


def save_state(path: Path, state: MiningState) -> None:
    """Write a state as it is right after a fit."""
    assert state.svms is not None
    arrays: Arrays = {"keys": state.buffer.keys, "duals": state.buffer.duals}
    arrays |= {"weights": state.svms.weights, "biases": state.svms.biases}
    write_arrays(path, arrays, {"next_image": state.next_image})


def load_state(path: Path, images: TrainingSet, buffer: SampleBuffer) -> MiningState | None:
    """Read the state of `save_state` and pool its samples into the empty ``buffer``; return None without a state.

    A damaged file is logged and ignored.
    """
    if (stored := stored_arrays(path, "starting over", _STATE_ARRAYS)) is None:
        return None
    arrays, metadata = stored
    keys = arrays["keys"].astype(np.int64)
    for run in np.split(np.arange(len(keys)), np.flatnonzero(np.diff(keys[:, 0])) + 1):
        image, rows = int(keys[run[0], 0]), keys[run, 1]
        samples = images[image]
        buffer.add(samples.features(rows), samples.targets[rows], image, rows)
    buffer.duals[:] = arrays["duals"]
    svms = LinearSVMs(arrays["weights"].astype(np.float32), arrays["biases"].astype(np.float32))
    return MiningState(buffer, metadata["next_image"], svms=svms)
