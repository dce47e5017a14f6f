"""Prediction of the time of many images on many machines."""

from __future__ import annotations

import pytest

from benchmarks.scale import START_SECONDS, Cluster, Step, predicted, rate
from detector.parallel.map_images import Threads


def test_the_slowest_parallel_part_is_the_bottleneck() -> None:
    step = Step("detect", seconds=0.5, read=1e5, sent=1e3)
    table = predicted(step, Cluster(workers=10, network=1e9, storage=1e9, items=5000.0))
    # 10^6 images of half a second on 10 nodes of 10 workers; the driver takes 200 s, the storage 100 s
    assert table[10**6, 10] == (START_SECONDS + 5000, "workers")
    assert table[10**6, 1000] == (START_SECONDS + 200, "driver")
    slow = predicted(step, Cluster(workers=10, network=1e9, storage=1e8, items=5000.0))
    assert slow[10**6, 1000] == (START_SECONDS + 1000, "storage")
    far = predicted(step, Cluster(workers=10, network=1e6, storage=1e9, items=5000.0))
    assert far[10**6, 1000][1] == "network"
    assert far[10**6, 1000][0] == pytest.approx(START_SECONDS + 1000)


def test_the_start_of_workers_is_not_counted() -> None:
    assert rate(lambda: lambda item: item, range(100), Threads(1)) > 0
