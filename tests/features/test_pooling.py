"""Spatial pyramid pooling against its twin and torch's adaptive pooling, equal to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.features.pooling import PAPER_LEVELS, n_bins, spatial_pyramid_pool
from tests.reference import pyramid_pool


def random_map(height: int, width: int, channels: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((height, width, channels)).astype(np.float32)


def test_the_papers_pyramids() -> None:
    assert n_bins((6, 3, 2, 1)) == 50
    assert n_bins((4, 3, 2, 1)) == 30


def test_bins_overlap_as_in_the_appendix() -> None:
    # 3 cells in 2 bins: [0, 2) and [1, 3)
    feature_map = np.array([[[1.0], [5.0], [2.0]]], np.float32)
    pooled = spatial_pyramid_pool(feature_map, np.array([[0, 0, 3, 1]]), (2,))
    assert pooled[0, :, 0].tolist() == [5, 5, 5, 5]
    pooled = spatial_pyramid_pool(-feature_map, np.array([[0, 0, 3, 1]]), (2,))
    assert pooled[0, :, 0].tolist() == [-1, -2, -1, -2]


def test_every_small_window_equals_the_twin() -> None:
    feature_map = random_map(14, 15, 2)
    windows = np.array([[1, 0, 1 + w, h] for w in range(1, 15) for h in range(1, 15)])
    for levels in (PAPER_LEVELS, (4, 3, 2, 1), (5, 7)):
        expected = pyramid_pool(feature_map, windows, levels)
        np.testing.assert_array_equal(spatial_pyramid_pool(feature_map, windows, levels), expected)


def test_large_windows_equal_adaptive_pooling() -> None:
    feature_map = random_map(64, 64, 3)
    sizes = [(h, w) for h in range(1, 65) for w in range(1, 65)]
    windows = np.array([[64 - w, 64 - h, 64, 64] for h, w in sizes])
    pooled = spatial_pyramid_pool(feature_map, windows)
    for row, (x1, y1, x2, y2) in zip(pooled, windows, strict=True):
        window = torch.from_numpy(feature_map[y1:y2, x1:x2]).permute(2, 0, 1)
        levels = [torch.nn.functional.adaptive_max_pool2d(window, n).flatten(1).T for n in PAPER_LEVELS]
        np.testing.assert_array_equal(row, torch.cat(levels).numpy())


@given(
    st.permutations([6, 3, 2, 1]),
    st.integers(1, 9),
    st.lists(st.tuples(*[st.integers(0, 8)] * 4), max_size=4),
)
def test_order_of_levels_and_signs_do_not_matter(
    levels: list[int], channels: int, corners: list[tuple[int, int, int, int]]
) -> None:
    feature_map = random_map(9, 9, channels, seed=channels) - 3
    windows = np.array(
        [[min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1] for a, b, c, d in corners], np.int64
    ).reshape(-1, 4)
    expected = pyramid_pool(feature_map, windows, levels)
    np.testing.assert_array_equal(spatial_pyramid_pool(feature_map, windows, levels), expected)


def test_half_precision_maps_and_views_are_taken() -> None:
    half = random_map(9, 8, 4).astype(np.float16)
    windows = np.array([[2, 1, 8, 9]])
    expected = pyramid_pool(half.astype(np.float32), windows, PAPER_LEVELS)
    np.testing.assert_array_equal(spatial_pyramid_pool(half, windows), expected)
    view = np.ascontiguousarray(half.astype(np.float32).transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_array_equal(spatial_pyramid_pool(view, windows), expected)


def test_many_windows_on_any_number_of_threads() -> None:
    feature_map = random_map(20, 20, 3)
    corners = np.random.default_rng(0).integers(0, 16, (100_000, 2))
    windows = np.concatenate([corners, corners + 4], axis=1)
    pooled = spatial_pyramid_pool(feature_map, windows, (2, 1), threads=1)
    blocks = np.lib.stride_tricks.sliding_window_view(feature_map, (4, 4), (0, 1)).max((3, 4))
    np.testing.assert_array_equal(pooled[:, 4], blocks[corners[:, 1], corners[:, 0]])
    for threads in (2, 5):
        np.testing.assert_array_equal(spatial_pyramid_pool(feature_map, windows, (2, 1), threads=threads), pooled)


def test_no_windows() -> None:
    assert spatial_pyramid_pool(random_map(3, 3, 2), np.zeros((0, 4), np.int64)).shape == (0, 50, 2)


@pytest.mark.parametrize("window", [[0, 0, 0, 1], [2, 2, 1, 3], [-1, 0, 1, 1], [0, 0, 5, 1], [0, 0, 1, 4]])
def test_windows_must_lie_on_the_map(window: list[int]) -> None:
    with pytest.raises(ValueError, match="inside the 3 x 4 map, but row 1 is"):
        spatial_pyramid_pool(random_map(3, 4, 1), np.array([[0, 0, 1, 1], window]))


def test_bad_arguments() -> None:
    windows = np.array([[0, 0, 1, 1]])
    with pytest.raises(ValueError, match="levels must be one or more positive numbers"):
        spatial_pyramid_pool(random_map(3, 3, 1), windows, ())
    with pytest.raises(ValueError, match="levels must be one or more positive numbers"):
        spatial_pyramid_pool(random_map(3, 3, 1), windows, (3, 0))
    with pytest.raises(ValueError, match=r"cells \(_, 4\), but got \(3, 3, 1\) and \(1, 3\)"):
        spatial_pyramid_pool(random_map(3, 3, 1), windows[:, :3])
