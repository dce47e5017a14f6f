"""What a detection takes while the machine has other work: busy processes, or a second detection at once."""

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

from detector.runtime.progress import stage, stage_times
from detector.runtime.threads import on_one_thread_each


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that compute without a pause, each on one thread."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def convolution_on_one_thread(detector: Any, images: Sequence[NDArray[np.uint8]]) -> float:
    """Median seconds an image."""
    with on_one_thread_each() as begin, ThreadPoolExecutor(1, initializer=begin) as pool:
        runs = pool.submit(detections, detector, images).result()
    return float(np.median([convolution(times) for times in runs]))


def detections(detector: Any, images: Sequence[NDArray[np.uint8]]) -> list[dict[str, float]]:
    """Seconds by stage of the detection of every image."""
    runs = []
    for image in images:
        with stage_times() as times, stage("together"):
            detector.detect(image)
        runs.append(times)
    return runs


def convolution(times: dict[str, float]) -> float:
    """Seconds of all scales together."""
    return sum(seconds for name, seconds in times.items() if name.startswith("convolution"))


def two_at_once(detector: Any, images: Sequence[NDArray[np.uint8]]) -> tuple[float, float]:
    """Median seconds of two detections, one after the other and at once in two threads."""
    in_sequence, at_once = [], []
    with ThreadPoolExecutor(2) as pool:
        for image in images:
            in_sequence.append(_seconds(lambda image=image: [detector.detect(image) for _ in range(2)]))
            at_once.append(_seconds(lambda image=image: list(pool.map(detector.detect, [image, image]))))
    return float(np.median(in_sequence)), float(np.median(at_once))


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
