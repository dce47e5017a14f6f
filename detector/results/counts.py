"""Expected numbers of objects, from calibrated probabilities, with their errors: a table of images or of seconds."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.detections import Detections
from detector.results.streams import whole_text

Expected = NDArray[np.float64]
"""Expected number of objects of each class, and its standard error, ``(K, 2)``."""
COUNTS = "counts"
"""Name of the format."""


def expected_counts(found: Detections) -> Expected | None:
    """Return the expected number of objects of each class among the detections, and its standard error, ``(K, 2)``.

    Each detection is an object with its probability p, independently of the others: the number is the sum of p, its
    variance that of p (1 - p). None without probabilities.
    """
    if found.probabilities is None:
        return None
    p, k = found.probabilities.astype(np.float64), len(found.class_names)
    numbers, variances = (np.bincount(found.labels, each, k) for each in (p, p * (1 - p)))
    return np.stack([numbers, np.sqrt(variances)], axis=1)


AddCounts = Callable[[str, Expected, float | None], None]
"""Takes the name of an image, its counts and, of a frame, its time in seconds."""


@contextmanager
def counts_table(path: Path, class_names: Sequence[str], films: bool = False) -> Iterator[AddCounts]:
    """Write a CSV table with a row for each image, and the columns "dog" and "dog error" for a class dog.

    films: a row for each second of a film, with the means of its frames: these show the same objects, so that their
    errors do not cancel. class_names: of the columns; the sequence may grow until the first row.
    """
    header_written = False
    waiting: tuple[str, int] | None = None
    frames: list[Expected] = []

    def write(start: Sequence[object], expected: Expected) -> None:
        nonlocal header_written
        if not header_written:
            columns = chain.from_iterable((name, f"{name} error") for name in class_names)
            rows.writerow(("image", *(("second", "frames") if films else ()), *columns))
            header_written = True
        rows.writerow((*start, *expected.round(3).ravel().tolist()))

    def write_second() -> None:
        if waiting is not None:
            write((*waiting, len(frames)), np.mean(frames, axis=0))
        frames.clear()

    def add(name: str, expected: Expected, seconds: float | None = None) -> None:
        nonlocal waiting
        if seconds is None:
            write((name,), expected)
            return
        if waiting != (name, int(seconds)):
            write_second()
            waiting = name, int(seconds)
        frames.append(expected)

    with whole_text(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        yield add
        write_second()
