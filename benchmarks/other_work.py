"""Time of a detection while the machine has other work: busy processes, or a second detection."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.runtime.progress import timer, timings
from detector.runtime.threads import on_one_thread_each


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Run ``count`` processes that compute without a pause, each on one thread."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def convolution_on_one_thread(detector: Any, images: Sequence[NDArray[np.uint8]]) -> float:
    """Return the median seconds of convolution per image on one thread."""
    with on_one_thread_each() as begin, ThreadPoolExecutor(1, initializer=begin) as pool:
        runs = pool.submit(detections, detector, images).result()
    return float(np.median([convolution(times) for times in runs]))


def detections(detector: Any, images: Sequence[NDArray[np.uint8]]) -> list[dict[str, float]]:
    """Return the seconds of each step of a detection, per image."""
    runs = []
    for image in images:
        with timings() as times, timer("together"):
            detector.detect(image)
        runs.append(times)
    return runs


def convolution(times: dict[str, float]) -> float:
    """Return the seconds of convolution at all scales."""
    return sum(seconds for name, seconds in times.items() if name.startswith("convolution"))


def two_in_parallel(detector: Any, images: Sequence[NDArray[np.uint8]]) -> tuple[float, float]:
    """Return the median seconds of two detections, in sequence and in two threads."""
    in_sequence, parallel = [], []
    with ThreadPoolExecutor(2) as pool:
        for image in images:
            in_sequence.append(_seconds(lambda image=image: [detector.detect(image) for _ in range(2)]))
            parallel.append(_seconds(lambda image=image: list(pool.map(detector.detect, [image, image]))))
    return float(np.median(in_sequence)), float(np.median(parallel))


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
