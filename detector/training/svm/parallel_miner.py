"""Mining with workers: each scores images with the SVMs of the round and returns only their hardest samples.

The order of the images, the rounds and the model are bit-identical to those of one process: images are scored ahead
with the current SVMs, and those that come after a new fit are scored again with the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.config.detector import SVMConfig
from detector.features.cache import CacheWorkers, FeatureCache
from detector.heads.linear import LinearSVMs
from detector.parallel.map_images import Failure, Shared, map_images
from detector.training.svm.mining import NewSamples, hardest_negatives, positives
from detector.training.svm.sample_buffer import SampleBuffer
from detector.training.training_set import TrainingSet


class ParallelMiner:
    """A `Sampler` whose workers read the ``images`` from caches that they open. `close` ends the workers."""

    def __init__(self, images: TrainingSet, config: SVMConfig, workers: CacheWorkers) -> None:
        self._images = images
        self._factory = _SamplerFactory(images.without_cache(), workers.build, config)
        self._engine = workers.engine
        self._svms: LinearSVMs | None = None
        self._shared: Shared | None = None
        self._round = self._next = 0
        self._results: Generator[tuple[_Task, Any], None, None] | None = None

    def __call__(self, index: int, svms: LinearSVMs | None, buffer: SampleBuffer) -> NewSamples:
        """Return new samples of an image; see `Sampler`."""
        if self._results is None or svms is not self._svms:
            self._begin_round(index, svms)
        while True:
            if self._results is None:
                self._results = map_images(self._factory, self._tasks(buffer), self._engine)
            for task, new in self._results:
                if task.round != self._round:
                    continue  # scored ahead with earlier SVMs
                if isinstance(new, Failure):
                    raise ValueError(new.message)
                assert task.index == index
                return new
            # the last images were in progress when a round began: score them again
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

    def _tasks(self, buffer: SampleBuffer) -> Iterator[_Task]:
        while self._next < len(self._images):
            index, self._next = self._next, self._next + 1
            path = self._images.annotations[index % len(self._images.annotations)].path
            known = np.zeros(0, np.int64) if self._shared is None else buffer.rows_of(index)
            yield _Task(index, self._round, known, path, self._shared)


@dataclass(frozen=True)
class _Task:
    """An image to sample: its index, the round (0 for positives), and the rows that are in the buffer already.

    shared: the SVMs of the round.
    """

    index: int
    round: int
    known: NDArray[np.int64]
    path: Path
    shared: Shared | None


@dataclass(frozen=True)
class _SamplerFactory:
    """Builds the function of a worker; ``images`` come without a cache."""

    images: TrainingSet
    build: Callable[[], FeatureCache]
    config: SVMConfig

    def __call__(self) -> Callable[[_Task], NewSamples]:
        images = replace(self.images, cache=self.build())

        def sample(task: _Task) -> NewSamples:
            samples = images[task.index]
            if task.shared is None:
                new = positives(samples)
            else:
                new = hardest_negatives(samples, task.shared.value, task.known, self.config)
            # as the buffer stores them: half of the bytes to send
            return replace(new, features=new.features.astype(np.float16))

        return sample
