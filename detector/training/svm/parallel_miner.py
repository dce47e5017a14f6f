"""Mining by workers: each scores images with the SVMs of the round and gives back their hardest samples alone.

The order of the images and the rounds are those of one process, and so is the model, to the bit: images are scored
ahead with the SVMs that there are, and those that come after a new fit are scored again with the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.features.cache import FeatureCache, Where
from detector.heads.linear import LinearSVMs
from detector.parallel.map_images import Failure, Shared, map_images
from detector.training.svm.mining import MiningSettings, Picked, hardest_negatives, known_rows, positives
from detector.training.svm.sample_buffer import Bank
from detector.training.training_set import TrainingSet


@dataclass(frozen=True)
class Image:
    """An image to pick samples from: its index, the round, 0 for positives, and rows that are known already.

    shared: the SVMs of the round.
    """

    index: int
    round: int
    known: NDArray[np.int64]
    path: Path
    shared: Shared | None


@dataclass(frozen=True)
class Picking:
    """Makes what picks samples; ``images`` come without a cache."""

    images: TrainingSet
    build: Callable[[], FeatureCache]
    settings: MiningSettings

    def __call__(self) -> Callable[[Image], Picked]:
        """Build the cache."""
        images = replace(self.images, cache=self.build())

        def pick(image: Image) -> Picked:
            samples = images[image.index]
            if image.shared is None:
                return _rounded(positives(samples))
            return _rounded(hardest_negatives(samples, image.shared.value, image.known, self.settings))

        return pick


def _rounded(picked: Picked) -> Picked:
    # as the bank keeps them: half of the bytes that move
    return replace(picked, features=picked.features.astype(np.float16))


class Crew:
    """A `Scout` whose workers read the ``images`` from caches that they build. `close` ends them."""

    def __init__(self, images: TrainingSet, settings: MiningSettings, where: Where) -> None:
        self._images = images
        without_cache: Any = replace(images, cache=None)  # type: ignore[arg-type]
        self._factory = Picking(without_cache, where.build, settings)
        self._engine = where.engine
        self._svms: LinearSVMs | None = None
        self._shared: Shared | None = None
        self._round = self._next = 0
        self._results: Generator[tuple[Image, Any], None, None] | None = None

    def __call__(self, index: int, svms: LinearSVMs | None, bank: Bank) -> Picked:
        """See `Scout`."""
        if self._results is None or svms is not self._svms:
            self._begin_round(index, svms)
        while True:
            if self._results is None:
                self._results = map_images(self._factory, self._ahead(bank), self._engine)
            for image, picked in self._results:
                if image.round != self._round:
                    continue  # scored ahead, by SVMs of before
                if isinstance(picked, Failure):
                    raise ValueError(picked.message)
                assert image.index == index
                return picked
            # the last images were under way when a round began: they are to be scored again
            self._results = None

    def close(self) -> None:
        """End all workers."""
        if self._results is not None:
            self._results.close()

    def _begin_round(self, index: int, svms: LinearSVMs | None) -> None:
        self._svms, self._next = svms, index
        if svms is not None:
            self._shared = Shared(svms)
            self._round += 1

    def _ahead(self, bank: Bank) -> Iterator[Image]:
        while self._next < len(self._images):
            index, self._next = self._next, self._next + 1
            path = self._images.annotations[index % len(self._images.annotations)].path
            known = np.zeros(0, np.int64) if self._shared is None else known_rows(bank, index)
            yield Image(index, self._round, known, path, self._shared)
