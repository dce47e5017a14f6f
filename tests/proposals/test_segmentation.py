"""Segmentation against the algorithm as the paper states it, on single edges and components."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.data import astronaut

from detector.proposals.segmentation import LEVELS_PER_UNIT, NO_EDGE, PixelGraph, pixel_graph, segment

DIRECTIONS = ((0, 1), (1, -1), (1, 0), (1, 1))


def segment_slowly(graph: PixelGraph, width: int, k: float, min_size: int) -> NDArray[np.int64]:
    """Felzenszwalb & Huttenlocher's algorithm with sets of pixels, over all edges in order."""
    n_pixels = graph.levels.shape[1]
    component = {pixel: frozenset([pixel]) for pixel in range(n_pixels)}
    heaviest = dict.fromkeys(component.values(), 0)
    edges = []
    for direction, pixel in product(range(4), range(n_pixels)):
        level = int(graph.levels[direction, pixel])
        if level != NO_EDGE:
            down, across = DIRECTIONS[direction]
            edges.append((level, pixel, direction, pixel + down * width + across))
    edges.sort()

    def join(a: frozenset[int], b: frozenset[int], level: int) -> None:
        both = a | b
        heaviest[both] = level
        component.update(dict.fromkeys(both, both))

    for level, pixel, _, other in edges:
        a, b = component[pixel], component[other]
        if a != b and all((level - heaviest[c]) * len(c) <= int(k * LEVELS_PER_UNIT) for c in (a, b)):
            join(a, b, level)
    for level, pixel, _, other in edges:
        a, b = component[pixel], component[other]
        if a != b and min(len(a), len(b)) < min_size:
            join(a, b, level)
    firsts = np.array([min(component[pixel]) for pixel in range(n_pixels)])
    return np.unique(firsts, return_inverse=True)[1]


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    n_colors=st.sampled_from([2, 5, 40, 256]),
    k=st.sampled_from([0, 0.5, 3, 20, 100, 400]),
    min_size=st.integers(0, 15),
    sigma=st.sampled_from([0, 0.8]),
    seed=st.integers(0, 1000),
)
def test_equals_the_slow_twin_on_random_images(
    height: Any, width: Any, n_colors: Any, k: Any, min_size: Any, sigma: Any, seed: Any
) -> None:
    image = np.random.default_rng(seed).integers(0, n_colors, (height, width, 3)).astype(np.uint8)
    graph = pixel_graph(image, sigma)
    labels, n_regions = segment(graph, k, min_size)
    expected = segment_slowly(graph, width, k, min_size)
    assert labels.tolist() == expected.tolist()
    assert n_regions == expected.max() + 1


@pytest.mark.parametrize(("k", "min_size"), [(5, 5), (50, 50), (100, 20), (300, 0)])
def test_equals_the_slow_twin_on_a_photograph(k: Any, min_size: Any) -> None:
    image = np.ascontiguousarray(astronaut()[60:180:2, 150:310:2])
    graph = pixel_graph(image)
    labels, _ = segment(graph, k, min_size)
    assert labels.tolist() == segment_slowly(graph, image.shape[1], k, min_size).tolist()


def test_large_images_are_swept_without_a_change_in_the_result(monkeypatch: Any) -> None:
    image = np.ascontiguousarray(astronaut()[:100, 150:300])
    graph = pixel_graph(image)
    swept, n_swept = segment(graph, 50, 50)
    monkeypatch.setattr("detector.proposals.segmentation.FEW_EDGES", 0)
    often, n_often = segment(graph, 50, 50)
    monkeypatch.setattr("detector.proposals.segmentation.FEW_EDGES", 10**9)
    never, n_never = segment(graph, 50, 50)
    assert n_swept == n_often == n_never > 10
    assert np.array_equal(swept, often)
    assert np.array_equal(swept, never)


def test_levels_are_color_distances_to_the_four_neighbors() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 1] = (3, 4, 0)
    image[1, 0] = (0, 0, 2)
    image[1, 1] = (1, 2, 2)
    levels = pixel_graph(image, sigma=0).levels / LEVELS_PER_UNIT
    outside = NO_EDGE / LEVELS_PER_UNIT
    assert levels[0, [0, 2]].tolist() == [5, int(np.sqrt(5) * LEVELS_PER_UNIT) / LEVELS_PER_UNIT]
    assert levels[1, 1] == int(np.sqrt(29) * LEVELS_PER_UNIT) / LEVELS_PER_UNIT
    assert levels[2, :2].tolist() == [2, int(np.sqrt(12) * LEVELS_PER_UNIT) / LEVELS_PER_UNIT]
    assert levels[3, 0] == 3
    assert (levels[0, [1, 3]] == outside).all()
    assert (levels[1:, 2:] == outside).all()
    assert levels[1, 0] == levels[3, 1] == outside


def test_images_are_smoothed_by_a_gaussian() -> None:
    image = astronaut()[:64, :64]
    smooth = scipy.ndimage.gaussian_filter(image.astype(np.float64), (0.8, 0.8, 0), mode="nearest", truncate=5)
    distances = np.linalg.norm(smooth[:, 1:] - smooth[:, :-1], axis=2)
    levels = pixel_graph(image, sigma=0.8).levels[0].reshape(64, 64)[:, :-1]
    assert np.abs((levels + 0.5) / LEVELS_PER_UNIT - distances).max() < 1.1 / LEVELS_PER_UNIT


def test_min_size_is_kept_and_larger_k_gives_fewer_regions() -> None:
    graph = pixel_graph(astronaut())
    counts = []
    for k in (50, 100, 300):
        labels, n_regions = segment(graph, k, 80)
        assert np.bincount(labels).min() >= 80
        counts.append(n_regions)
    assert counts[0] > counts[1] > counts[2] > 1


def test_regions_are_connected() -> None:
    labels, n_regions = segment(pixel_graph(np.ascontiguousarray(astronaut()[:200, :200])), 50, 50)
    labels = labels.reshape(200, 200)
    for region in range(n_regions):
        assert scipy.ndimage.label(labels == region, np.ones((3, 3)))[1] == 1
