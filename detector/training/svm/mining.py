"""Hard-negative mining: all classes in one pass over the images, on one shared bank of samples.

Positives are the ground-truth boxes of a class; its negatives are boxes that overlap no object of the class by 0.3 or
more (paper, section 4.1; release: spp_train). A sample that is hard for several classes is stored once.

All boxes of an image are pooled and scored a block at a time, so that features are used while they are in the
processor's cache, and only those of the hardest boxes are pooled again to be kept::

    mine -> ImageSamples.scores(svms) -> RegionEncoder.apply: for each block of boxes, on all threads,
        cells of the cached maps -> pyramid pooling -> TrainingSet.scale_features -> svms.decision_function
    hardest boxes -> ImageSamples.features(rows) -> Bank.add -> solver -> svms
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detector.heads.linear import LinearSVMs
from detector.runtime.array_cache import stored_arrays
from detector.runtime.files import Arrays, write_arrays
from detector.runtime.progress import Progress, without_progress
from detector.training.svm.problem import Solver, SVMProblem
from detector.training.svm.sample_buffer import Bank

Features = NDArray[np.float32]


class RegionSamples(Protocol):
    """The boxes of one image: what mining may take samples from.

    ``targets`` ``(R, K)`` int8 are 1 for the ground truth of a class, -1 where the box may serve as its negative, 0
    elsewhere.
    """

    @property
    def targets(self) -> NDArray[np.int8]: ...

    def features(self, rows: NDArray[np.int64]) -> Features:
        """Features ``(n, D)`` float32 of some boxes."""
        ...

    def scores(self, svms: LinearSVMs) -> Features:
        """Scores ``(R, K)`` float32 of all boxes."""
        ...


class MiningImages(Protocol):
    """A training set: the samples of an image by its index, the same at every call."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> RegionSamples: ...


@dataclass(frozen=True)
class MiningSettings:
    """Constants of the release, but for what bounds time and memory.

    ``add_above`` and ``evict_below`` are margins. At most the ``max_per_image`` hardest negatives of an image are
    added. The SVMs are fitted again, up to a relative duality gap of ``tolerance``, when the bank has grown by
    ``growth`` of its size or is full. The first ``start_images`` give ``start_samples`` random negatives each.
    """

    add_above: float = -1.0001
    evict_below: float = -1.2
    max_per_image: int = 100
    growth: float = 0.5
    tolerance: float = 1e-3
    start_images: int = 50
    start_samples: int = 100
    seed: int = 3


@dataclass(frozen=True)
class Picked:
    """Samples of an image: rows ``(n,)``, ascending, with their targets ``(n, K)`` and features ``(n, D)``.

    hardness: ``(n,)`` float32, the largest score by an SVM that they are negatives of; infinite for positives.
    """

    rows: NDArray[np.int64]
    hardness: NDArray[np.float32]
    targets: NDArray[np.int8]
    features: NDArray[np.floating]

    def hardest(self, most: int, samples: RegionSamples) -> Picked:
        """No more than ``most`` of them."""
        kept = np.sort(np.argsort(-self.hardness, kind="stable")[:most])
        return _picked(samples, self.rows[kept], self.hardness[kept])


class Scout(Protocol):
    """Who picks samples; see `pick`, whose first arguments are known to it."""

    def __call__(self, index: int, svms: LinearSVMs | None, bank: Bank) -> Picked:
        """Of the image of that index; images are asked for in their order."""
        ...


def pick(images: MiningImages, settings: MiningSettings, index: int, svms: LinearSVMs | None, bank: Bank) -> Picked:
    """The hardest negatives of an image that are not in the bank; without SVMs, its positives."""
    if svms is None:
        return positives(images[index])
    return hardest_negatives(images[index], svms, known_rows(bank, index), settings)


def known_rows(bank: Bank, index: int) -> NDArray[np.int64]:
    """The samples of an image that are in the bank."""
    return bank.keys[bank.keys[:, 0] == index, 1]


def positives(samples: RegionSamples) -> Picked:
    """The objects of an image."""
    rows = np.flatnonzero((samples.targets > 0).any(1))
    return _picked(samples, rows, np.full(len(rows), np.inf, np.float32))


def hardest_negatives(
    samples: RegionSamples, svms: LinearSVMs, known: NDArray[np.int64], settings: MiningSettings
) -> Picked:
    """The hardest negatives of an image above the margin, but for those that are ``known``."""
    hardness = np.where(samples.targets < 0, samples.scores(svms), -np.inf).max(1)
    hardness[known] = -np.inf
    rows = np.argsort(-hardness, kind="stable")[: settings.max_per_image]
    rows = np.sort(rows[hardness[rows] > settings.add_above])
    return _picked(samples, rows, hardness[rows])


def _picked(samples: RegionSamples, rows: NDArray[np.int64], hardness: NDArray[np.float32]) -> Picked:
    return Picked(rows, hardness, samples.targets[rows], samples.features(rows))


_log = logging.getLogger(__name__)

_KEPT_WHEN_FULL = 0.75
_ROWS = 2048


def mining_targets(
    overlaps: NDArray[np.float32], object_labels: NDArray[np.int64], max_negative_iou: float = 0.3
) -> NDArray[np.int8]:
    """Targets ``(R, K)`` int8 of boxes of which the first ``len(object_labels)`` are the ground truth itself.

    ``overlaps`` ``(R, K)`` is the largest IoU of each box with the objects of each class.
    """
    targets = np.where(overlaps < max_negative_iou, -1, 0).astype(np.int8)
    targets[np.arange(len(object_labels)), object_labels] = 1
    return targets


def unique_rows(regions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ascending indices of the first row of every distinct region: boxes that read the same cells are one sample."""
    return np.sort(np.unique(regions, axis=0, return_index=True)[1])


@dataclass
class MiningState:
    """Where a pass stands: the image to look at next, samples added since the last fit, the SVMs and the bank."""

    bank: Bank
    next_image: int = 0
    added: int = 0
    svms: LinearSVMs | None = None


def mine(
    images: MiningImages,
    problem: SVMProblem,
    solver: Solver,
    settings: MiningSettings,
    state: MiningState,
    progress: Progress = without_progress,
    report: Callable[[MiningState], None] | None = None,
    scout: Scout | None = None,
) -> LinearSVMs:
    """Train one linear SVM a class in one pass over ``images``.

    ``state`` is one with an empty bank, or one that ``report`` was called with after a fit of an earlier pass, from
    which this one goes on to the same result. ``scout`` picks the samples of an image, if not this process. Raises
    ValueError when a class has no positive.
    """
    scout = scout or partial(pick, images, settings)
    if state.svms is None:
        _fill_start(images, state.bank, settings, progress, scout)
        missing = np.flatnonzero(~(state.bank.targets > 0).any(0))
        if len(missing):
            raise ValueError(f"no box of class {', '.join(map(str, missing))} to train on")
        _refit(state, problem, solver, settings, report)
    for index in progress(range(state.next_image, len(images)), "mining"):
        _add_hard(images, index, state, scout)
        state.next_image = index + 1
        grown = state.added >= settings.growth * (state.bank.size - state.added)
        if state.added and (grown or state.bank.free < settings.max_per_image):
            _refit(state, problem, solver, settings, report)
    bank = state.bank
    return solver(problem, bank.features, bank.targets, bank.duals, settings.tolerance)


def _fill_start(images: MiningImages, bank: Bank, settings: MiningSettings, progress: Progress, scout: Scout) -> None:
    rng = np.random.default_rng(settings.seed)
    for index in progress(range(len(images)), "positives"):
        if index >= settings.start_images:
            picked = scout(index, None, bank)
            bank.add(picked.features, picked.targets, index, picked.rows)
            continue
        samples = images[index]
        rows = np.flatnonzero((samples.targets > 0).any(1))
        negatives = np.flatnonzero((samples.targets < 0).any(1) & ~(samples.targets > 0).any(1))
        drawn = rng.choice(negatives, min(settings.start_samples, len(negatives)), replace=False)
        rows = np.concatenate([rows, np.sort(drawn)])
        bank.add(samples.features(rows), samples.targets[rows], index, rows)


def _add_hard(images: MiningImages, index: int, state: MiningState, scout: Scout) -> None:
    bank = state.bank
    picked = scout(index, state.svms, bank)
    if len(picked.rows) > bank.free:
        picked = picked.hardest(bank.free, images[index])
    bank.add(picked.features, picked.targets, index, picked.rows)
    state.added += len(picked.rows)


def _refit(
    state: MiningState,
    problem: SVMProblem,
    solver: Solver,
    settings: MiningSettings,
    report: Callable[[MiningState], None] | None,
) -> None:
    bank = state.bank
    state.svms = solver(problem, bank.features, bank.targets, bank.duals, settings.tolerance)
    parts = np.split(bank.features, range(_ROWS, bank.size, _ROWS))
    scores = np.concatenate([state.svms.decision_function(rows.astype(np.float32)) for rows in parts])
    objective = problem.objectives_at(state.svms, scores, bank.targets).sum()
    _log.info("%d samples of %d images: objective %.3f", bank.size, state.next_image, objective)
    hardest = np.where(bank.targets < 0, scores, -np.inf).max(1)
    positive = (bank.targets > 0).any(1)
    keep = positive | (hardest >= settings.evict_below)
    # a full bank gives up its easiest negatives, so that there is room to go on
    allowed = int(bank.capacity * _KEPT_WHEN_FULL)
    if keep.sum() > allowed:
        order = np.argsort(-np.where(positive, np.inf, hardest), kind="stable")
        keep[order[max(allowed, int(positive.sum())) :]] = False
    bank.keep(np.flatnonzero(keep))
    state.added = 0
    if report:
        report(state)


def class_overlaps(
    overlaps: NDArray[np.float32], object_labels: NDArray[np.int64], n_classes: int
) -> NDArray[np.float32]:
    """Largest IoU ``(R, K)`` with the objects of each class, 0 where none, from the IoU ``(R, N)`` with all."""
    best = np.zeros((len(overlaps), n_classes), np.float32)
    for k in np.unique(object_labels):
        best[:, k] = overlaps[:, object_labels == k].max(1)
    return best


_KEPT = ("keys", "duals", "weights", "biases", "next_picture")


def save_state(path: Path, state: MiningState) -> None:
    """Write a state as it is right after a fit."""
    assert state.svms is not None
    bank = state.bank
    arrays: Arrays = {"keys": bank.keys, "duals": bank.duals}
    arrays |= {"weights": state.svms.weights, "biases": state.svms.biases}
    write_arrays(path, arrays, {"next_picture": state.next_image})


def load_state(path: Path, images: MiningImages, bank: Bank) -> MiningState | None:
    """The state of `save_state`, with its samples pooled into the empty ``bank``; None where there is none.

    A damaged file is reported and counts as none.
    """
    if (stored := stored_arrays(path, "starting over", _KEPT)) is None:
        return None
    arrays, metadata = stored
    keys = arrays["keys"].astype(np.int64)
    runs = np.split(np.arange(len(keys)), np.flatnonzero(np.diff(keys[:, 0])) + 1)
    for run in runs:
        image, rows = int(keys[run[0], 0]), keys[run, 1]
        samples = images[image]
        bank.add(samples.features(rows), samples.targets[rows], image, rows)
    bank.duals[:] = arrays["duals"]
    svms = LinearSVMs(arrays["weights"].astype(np.float32), arrays["biases"].astype(np.float32))
    return MiningState(bank, metadata["next_picture"], svms=svms)
