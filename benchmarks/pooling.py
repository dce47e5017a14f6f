"""Pyramid pooling and fused scoring against a copy of the features and torchvision's roi_pool.

Wall time, medians of rounds with one turn per method. The map is random, of the size of a 500 x 375 image at 688 pixels
and stride 16; the boxes are random, too.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import machine
from detector.features.encoder import FeatureMaps, RegionEncoder
from detector.features.pooling import PAPER_LEVELS, spatial_pyramid_pool
from detector.heads.linear import LinearSVMs

MAP_SIZE = (43, 58)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--boxes", type=int, default=2000, metavar="R", help="default: 2000")
    parser.add_argument("--channels", type=int, default=256, metavar="C", help="default: 256")
    parser.add_argument("--classes", type=int, default=20, metavar="K", help="default: 20")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="default: 15")


def measure(options: argparse.Namespace) -> int:
    random = np.random.default_rng(0)
    feature_map = random.standard_normal((*MAP_SIZE, options.channels), dtype=np.float32)
    cells = random_cells(random, options.boxes)
    pooled = spatial_pyramid_pool(feature_map, cells)
    weights = random.standard_normal((pooled[0].size, options.classes), dtype=np.float32)
    svms = LinearSVMs(weights, np.zeros(options.classes, np.float32))
    backbone: Any = SimpleNamespace(channels=options.channels)
    encoder = RegionEncoder(backbone)
    maps = FeatureMaps((feature_map,), (1.0,), MAP_SIZE)
    regions = np.column_stack([np.zeros(len(cells), np.int64), cells])
    methods: dict[str, Callable[[], Any]] = {
        "a copy of the features": lambda: pooled.copy(),
        "pooling": lambda: spatial_pyramid_pool(feature_map, cells),
        "pooling, one thread": lambda: spatial_pyramid_pool(feature_map, cells, threads=1),
        "pooling, scored while in the cache": lambda: encoder.apply(svms.decision_function, maps, regions),
        "pooling, then scoring": lambda: svms.decision_function(encoder.pool(maps, regions)),
        "torchvision's roi_pool, four times": four_roi_pools(feature_map, cells),
    }
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(options.rounds + 1):
        for name, method in methods.items():
            start = time.perf_counter()
            method()
            times[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(seconds[1:])) for name, seconds in times.items()}  # the first round compiles
    print(f"{machine()}; {options.rounds} rounds")
    print(f"{options.boxes} boxes, {options.channels} channels, levels {PAPER_LEVELS}, {options.classes} classes")
    for name, seconds in medians.items():
        ratio = seconds / medians["pooling"]
        print(f"{name:<36} {1000 * seconds:8.1f} ms   {ratio:6.2f} times the pooling")
    print(f"pooling takes {medians['pooling'] / medians['a copy of the features']:.2f} times as long as the copy")
    peak = peak_memory(methods["pooling, scored while in the cache"])
    print(f"memory above its inputs, scored while in the cache: {peak:.1f} MB")
    return 0


def random_cells(random: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Return random cells ``(count, 4)``, half-open, inside the map."""
    ends = []
    for size in (MAP_SIZE[1], MAP_SIZE[0]):
        corners = np.sort(random.integers(0, size, (count, 2)), axis=1)
        ends.append(corners + np.array([0, 1]))
    return np.stack([ends[0][:, 0], ends[1][:, 0], ends[0][:, 1], ends[1][:, 1]], axis=1)


def four_roi_pools(feature_map: NDArray[np.float32], cells: NDArray[np.int64]) -> Callable[[], Any]:
    from torchvision.ops import roi_pool

    source = torch.from_numpy(feature_map).permute(2, 0, 1)[None].contiguous()
    # roi_pool includes the last cell
    boxes = [torch.from_numpy((cells - (0, 0, 1, 1)).astype(np.float32))]
    return lambda: [roi_pool(source, boxes, level) for level in PAPER_LEVELS]


def peak_memory(method: Callable[[], Any]) -> float:
    """Return the peak MB of numpy while a method runs."""
    tracemalloc.start()
    method()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6
