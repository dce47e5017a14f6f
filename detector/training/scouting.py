"""What mining takes of one image: the samples of its objects, and those that the SVMs of the round find hardest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detector.heads.linear_svm import LinearSVMs
from detector.training.sample_bank import Bank

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
