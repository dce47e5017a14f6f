"""Hard-negative mining: all classes in one pass over the images, on one shared bank of samples.

Positives are the ground-truth boxes of a class; its negatives are boxes that overlap no object of the class by 0.3 or
more (paper, section 4.1; release: spp_train). A sample that is hard for several classes is stored once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detector.heads.linear_svm import LinearSVMs
from detector.runtime.progress import Progress, without_progress
from detector.training.svm_problem import Solver, SVMProblem

Features = NDArray[np.float32]

_log = logging.getLogger(__name__)

_KEPT_WHEN_FULL = 0.75
_ROWS = 2048


@dataclass(frozen=True)
class Candidates:
    """The boxes of one image as mining sees them.

    ``windows`` ``(R, 5)`` int64 say where features come from; ``targets`` ``(R, K)`` int8 are 1 for the ground truth
    of a class, -1 where the box may serve as its negative, 0 elsewhere. ``apply(function, windows)`` gives a function
    of the features ``(n, D)`` of any rows of the windows, computed a block of rows at a time.
    """

    windows: NDArray[np.int64]
    targets: NDArray[np.int8]
    apply: Callable[[Callable[[Features], Features], NDArray[np.int64]], Features]

    def pool(self, windows: NDArray[np.int64]) -> Features:
        """Features ``(n, D)`` of some rows of ``windows``."""
        return self.apply(lambda features: features, windows)


class MiningImages(Protocol):
    """A training set: candidates of an image by its index, the same at every call."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Candidates: ...


def mining_targets(
    overlaps: NDArray[np.float32], truth_labels: NDArray[np.int64], max_negative_iou: float = 0.3
) -> NDArray[np.int8]:
    """Targets ``(R, K)`` int8 of boxes of which the first ``len(truth_labels)`` are the ground truth itself.

    ``overlaps`` ``(R, K)`` is the largest IoU of each box with the objects of each class.
    """
    targets = np.where(overlaps < max_negative_iou, -1, 0).astype(np.int8)
    targets[np.arange(len(truth_labels)), truth_labels] = 1
    return targets


def first_of_each(windows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ascending indices of the first row of every distinct window: boxes that read the same cells are one sample."""
    return np.sort(np.unique(windows, axis=0, return_index=True)[1])


@dataclass(frozen=True)
class MiningSettings:
    """Constants of the release, but for what bounds time and memory.

    ``add_above`` and ``evict_below`` are margins. At most the ``max_per_picture`` hardest negatives of an image are
    added. The SVMs are fitted again, up to a relative duality gap of ``tolerance``, when the bank has grown by
    ``growth`` of its size or is full. The first ``start_images`` give ``start_samples`` random negatives each.
    """

    add_above: float = -1.0001
    evict_below: float = -1.2
    max_per_picture: int = 100
    growth: float = 0.5
    tolerance: float = 1e-3
    start_images: int = 50
    start_samples: int = 100
    seed: int = 3


@dataclass
class Bank:
    """Samples of all classes: ``features`` ``(N, D)``, ``targets`` ``(N, K)``, ``keys`` ``(N, 2)`` image and row.

    Features are rounded to float16, so that twice as many fit. ``duals`` ``(N, K)`` are what the last fit left for the
    next one to start from, 0 for samples added since.
    """

    capacity: int
    n_features: int
    n_classes: int
    size: int = 0
    _features: NDArray[np.float16] = field(init=False, repr=False)
    _targets: NDArray[np.int8] = field(init=False, repr=False)
    _keys: NDArray[np.int64] = field(init=False, repr=False)
    _duals: Features = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # pages of an empty array cost no memory until they are written
        self._features = np.empty((self.capacity, self.n_features), np.float16)
        self._targets = np.empty((self.capacity, self.n_classes), np.int8)
        self._keys = np.empty((self.capacity, 2), np.int64)
        self._duals = np.empty((self.capacity, self.n_classes), np.float32)

    @property
    def features(self) -> NDArray[np.float16]:
        return self._features[: self.size]

    @property
    def targets(self) -> NDArray[np.int8]:
        return self._targets[: self.size]

    @property
    def keys(self) -> NDArray[np.int64]:
        return self._keys[: self.size]

    @property
    def duals(self) -> Features:
        return self._duals[: self.size]

    @property
    def free(self) -> int:
        return self.capacity - self.size

    def add(self, features: Features, targets: NDArray[np.int8], image: int, rows: NDArray[np.int64]) -> None:
        """Append samples of one image; ValueError when they do not fit."""
        if len(rows) > self.free:
            raise ValueError(f"the bank holds {self.capacity} samples; {len(rows)} more do not fit")
        end = self.size + len(rows)
        self._features[self.size : end] = features
        self._targets[self.size : end] = targets
        self._keys[self.size : end] = np.stack([np.full(len(rows), image), rows], axis=1)
        self._duals[self.size : end] = 0
        self.size = end

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Drop all samples but those at the ascending indices ``rows``; moved in place, block by block."""
        for start in range(0, len(rows), 1024):
            block = rows[start : start + 1024]
            target = slice(start, start + len(block))
            for array in (self._features, self._targets, self._keys, self._duals):
                array[target] = array[block]
        self.size = len(rows)


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
) -> LinearSVMs:
    """Train one linear SVM a class in one pass over ``images``.

    ``state`` is one with an empty bank, or one that ``report`` was called with after a fit of an earlier pass, from
    which this one goes on to the same result. Raises ValueError when a class has no positive.
    """
    if state.svms is None:
        _fill_start(images, state.bank, settings, progress)
        missing = np.flatnonzero(~(state.bank.targets > 0).any(0))
        if len(missing):
            raise ValueError(f"no box of class {', '.join(map(str, missing))} to train on")
        _refit(state, problem, solver, settings, report)
    for index in progress(range(state.next_image, len(images)), "mining"):
        _add_hard(images[index], index, state, settings)
        state.next_image = index + 1
        grown = state.added >= settings.growth * (state.bank.size - state.added)
        if state.added and (grown or state.bank.free < settings.max_per_picture):
            _refit(state, problem, solver, settings, report)
    bank = state.bank
    return solver(problem, bank.features, bank.targets, bank.duals, settings.tolerance)


def _fill_start(images: MiningImages, bank: Bank, settings: MiningSettings, progress: Progress) -> None:
    rng = np.random.default_rng(settings.seed)
    for index in progress(range(len(images)), "positives"):
        candidates = images[index]
        rows = np.flatnonzero((candidates.targets > 0).any(1))
        if index < settings.start_images:
            negatives = np.flatnonzero((candidates.targets < 0).any(1) & ~(candidates.targets > 0).any(1))
            drawn = rng.choice(negatives, min(settings.start_samples, len(negatives)), replace=False)
            rows = np.concatenate([rows, np.sort(drawn)])
        bank.add(candidates.pool(candidates.windows[rows]), candidates.targets[rows], index, rows)


def _add_hard(candidates: Candidates, index: int, state: MiningState, settings: MiningSettings) -> None:
    assert state.svms is not None
    bank = state.bank
    scores = candidates.apply(state.svms.decision_function, candidates.windows)
    hardest = np.where(candidates.targets < 0, scores, -np.inf).max(1)
    hardest[bank.keys[bank.keys[:, 0] == index, 1]] = -np.inf
    rows = np.argsort(-hardest, kind="stable")[: min(settings.max_per_picture, bank.free)]
    rows = np.sort(rows[hardest[rows] > settings.add_above])
    bank.add(candidates.pool(candidates.windows[rows]), candidates.targets[rows], index, rows)
    state.added += len(rows)


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
    overlaps: NDArray[np.float32], truth_labels: NDArray[np.int64], n_classes: int
) -> NDArray[np.float32]:
    """Largest IoU ``(R, K)`` with the objects of each class, 0 where none, from the IoU ``(R, N)`` with all."""
    best = np.zeros((len(overlaps), n_classes), np.float32)
    for k in np.unique(truth_labels):
        best[:, k] = overlaps[:, truth_labels == k].max(1)
    return best
