"""Time of a training, summed over all of its starts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from detector.config.detector import Config
from detector.datasets.dataset import Annotation
from detector.features.cache import FeatureCache
from detector.runtime.array_files import stored_arrays, write_arrays
from detector.runtime.files import digest
from detector.runtime.progress import Progress
from detector.training.checkpoints import state_file

SECONDS_PER_WRITE = 20.0


class TimeSpent:
    """Stopwatch of a training that may be killed and started again: a file holds the seconds of earlier starts.

    It is written every `SECONDS_PER_WRITE` while the loops of `progress` run; a killed start loses no more than that.
    """

    def __init__(self, file: Path) -> None:
        self.file, self._start = file, time.monotonic()
        self._written, self._before = self._start, _read_seconds(file)

    def progress(self, progress: Progress) -> Progress:
        """Return a progress like the one given that also keeps the time."""

        def counted(items: Iterable[Any], title: str) -> Iterator[Any]:
            for item in progress(items, title):
                yield item
                if time.monotonic() - self._written >= SECONDS_PER_WRITE:
                    self._written = time.monotonic()
                    write_arrays(self.file, {}, {"seconds": self.seconds})

        return counted

    @property
    def seconds(self) -> float:
        """Return the seconds of all starts up to now."""
        return self._before + time.monotonic() - self._start

    def finish(self) -> float:
        """Return the seconds of all starts and delete the file: the training is done."""
        self.file.unlink(missing_ok=True)
        return self.seconds


def time_spent(config: Config, images: Sequence[Annotation], cache: FeatureCache, fine_tune: bool) -> TimeSpent:
    """Start the stopwatch of a training by this recipe, with or without ``--fine-tune``.

    Its file is in the cache directory.
    """
    settings = {"fine_tune": fine_tune, "config": config.model_dump(mode="json"), "files": config.files()}
    return TimeSpent(state_file("seconds", settings, digest(each.to_bytes() for each in images), cache))


def _read_seconds(file: Path) -> float:
    """Return the seconds in a file, 0 for a missing or damaged one."""
    state = stored_arrays(file, "the time before it is lost", ("seconds",))
    return 0.0 if state is None else float(state[1]["seconds"])
