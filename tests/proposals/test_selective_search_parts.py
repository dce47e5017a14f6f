"""Selective search's parts against slow twins: grouping, regions, histograms and color spaces."""

from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.proposals.grouping import Regions, Similarity, group
from detector.proposals.regions import (
    ONE,
    color_bins,
    color_histograms,
    neighbor_pairs,
    region_extents,
    texels,
    texture_histograms,
)
from detector.proposals.selective_search import COLOR_SPACES, CTSF, TSF, F, S, convert_colors, selective_search
from tests.proposals.photograph import PHOTOGRAPH


def group_slowly(regions: Regions, similarity: Similarity) -> list[list[int]]:
    """Join the most similar pair until one region is left; similarities as in the paper, exactly."""
    area = int(regions.sizes.sum())
    alive = {
        i: (int(regions.sizes[i]), regions.boxes[i].tolist(), regions.colors[i], regions.textures[i])
        for i in range(len(regions.sizes))
    }
    touching = {frozenset(pair) for pair in regions.pairs.tolist()}

    def around(a: Any, b: Any) -> Any:
        return [min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])]

    def likeness(pair: Any) -> Any:
        (size_a, box_a, color_a, texture_a), (size_b, box_b, color_b, texture_b) = (alive[i] for i in sorted(pair))
        x1, y1, x2, y2 = around(box_a, box_b)
        return (
            int(similarity.color) * Fraction(int(np.minimum(color_a, color_b).sum()), ONE)
            + int(similarity.texture) * Fraction(int(np.minimum(texture_a, texture_b).sum()), ONE)
            + int(similarity.size) * (1 - Fraction(size_a + size_b, area))
            + int(similarity.fill) * (1 - Fraction((x2 - x1) * (y2 - y1) - size_a - size_b, area))
        )

    found: list[list[int]] = []
    while len(alive) > 1:
        pair = max(touching, key=lambda pair: (likeness(pair), [-i for i in sorted(pair)]))
        a, b = sorted(pair)
        (size_a, box_a, *histograms_a), (size_b, box_b, *histograms_b) = alive.pop(a), alive.pop(b)
        share = size_a / (size_a + size_b)
        mixed = [
            (p * share + q * (1 - share) + 0.5).astype(np.uint16)
            for p, q in zip(histograms_a, histograms_b, strict=True)
        ]
        joined = len(regions.sizes) + len(found)
        alive[joined] = (size_a + size_b, around(box_a, box_b), *mixed)
        found.append(around(box_a, box_b))
        touching = {frozenset(joined if i in pair else i for i in other) for other in touching if other != pair}
    return found


def random_regions(n_regions: int, side: int, seed: int) -> Regions:
    random = np.random.default_rng(seed)
    labels = (
        np.unique(random.integers(0, n_regions, (side, side)), return_inverse=True)[1]
        .reshape(side, side)
        .astype(np.int32)
    )
    # Every label is one region here, whether its pixels hang together or not: more neighbors than a real one
    # has.
    count = int(labels.max()) + 1
    sizes, boxes = region_extents(labels, count)
    colors, textures = (np.rint(random.dirichlet(np.ones(12), count) * ONE).astype(np.uint16) for _ in range(2))
    return Regions(sizes, boxes, neighbor_pairs(labels, count), colors, textures)


@settings(max_examples=60, deadline=None)
@given(
    n_regions=st.integers(1, 25),
    side=st.integers(2, 12),
    similarity=st.sampled_from([CTSF, TSF, F, S, Similarity(1, 0, 0, 0)]),
    seed=st.integers(0, 1000),
)
def test_grouping_equals_brute_force(n_regions: Any, side: Any, similarity: Any, seed: Any) -> None:
    regions = random_regions(n_regions, side, seed)
    assert group(regions, similarity).tolist() == group_slowly(regions, similarity)


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), n_regions=st.integers(1, 60), seed=st.integers(0, 1000))
def test_extents_and_neighbors_equal_loops_over_pixels(height: Any, width: Any, n_regions: Any, seed: Any) -> None:
    drawn = np.random.default_rng(seed).integers(0, n_regions, (height, width))
    labels = np.unique(drawn, return_inverse=True)[1].reshape(height, width).astype(np.int32)
    count = int(labels.max()) + 1
    sizes, boxes = region_extents(labels, count)
    for region in range(count):
        y, x = np.nonzero(labels == region)
        assert sizes[region] == len(x)
        assert boxes[region].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    places = list(np.ndindex(height, width))
    touching = {
        tuple(sorted((int(labels[p]), int(labels[q]))))
        for p, q in combinations(places, 2)
        if abs(p[0] - q[0]) <= 1 and abs(p[1] - q[1]) <= 1 and labels[p] != labels[q]
    }
    assert neighbor_pairs(labels, count).tolist() == [list(pair) for pair in sorted(touching)]


def test_many_neighbors_are_all_found() -> None:
    labels = np.arange(90 * 90, dtype=np.int32).reshape(90, 90)
    assert len(neighbor_pairs(labels, labels.size)) == 2 * 90 * 89 + 2 * 89 * 89


def test_color_histograms_count_rounded_bins() -> None:
    image = np.zeros((1, 4, 3), np.uint8)
    image[0, :, 0] = (0, 5, 6, 255)  # a bin is 255 / 24 = 10.6 wide and the first one is half of that
    labels = np.array([0, 0, 0, 1], np.int32)
    histograms = color_histograms(color_bins(image, 25), 25, labels, np.array([3, 1], np.int32)) / ONE
    assert histograms[0, [0, 1, 25, 50]] == pytest.approx([2 / 9, 1 / 9, 1 / 3, 1 / 3], abs=0.5 / ONE)
    assert histograms[1, [24, 25, 50]] == pytest.approx([1 / 3, 1 / 3, 1 / 3], abs=0.5 / ONE)
    assert histograms.sum(axis=1) == pytest.approx([1, 1], abs=75 / ONE)


def test_texture_histograms_tell_directions_apart() -> None:
    step = np.zeros((20, 20), np.uint8)
    step[:, 10:] = 255
    labels, sizes = np.zeros(400, np.int32), np.array([400], np.int32)

    def filled(channel: Any) -> Any:
        found = texels(np.ascontiguousarray(channel), 0.8, 10, 0.43)
        return texture_histograms(found, labels, sizes).reshape(8, 10) / ONE

    rightwards = filled(step)
    # Beside the step the slope is 0.426 of the full range a pixel, at 45 degrees 0.302; one pixel on, 0.069
    # and 0.049.
    assert rightwards[0, 9] == pytest.approx(2 * 20 / 400 / 8, abs=0.5 / ONE)
    assert rightwards[1, 6] == rightwards[7, 6] == pytest.approx(2 * 20 / 400 / 8, abs=0.5 / ONE)
    assert rightwards[[0, 1, 7], 1] == pytest.approx(np.full(3, 2 * 20 / 400 / 8), abs=0.5 / ONE)
    assert rightwards[2:7, 1:].sum() == 0
    assert rightwards.sum() == pytest.approx(1, abs=80 / ONE)
    assert np.array_equal(filled(step[:, ::-1]), rightwards[[4, 3, 2, 1, 0, 7, 6, 5]])
    assert np.array_equal(filled(step.T), rightwards[[2, 1, 0, 7, 6, 5, 4, 3]])


def test_color_spaces_fill_the_range_of_a_byte() -> None:
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]]], np.uint8)
    assert convert_colors(colors, "hsv")[0].tolist() == [
        [0, 255, 255],
        [85, 255, 255],
        [171, 255, 255],
        [0, 0, 255],
        [0, 0, 0],
    ]
    assert convert_colors(colors, "lab")[0, 3:].tolist() == [[255, 128, 128], [0, 128, 128]]
    assert convert_colors(colors, "rgi")[0].tolist() == [
        [255, 0, 76],
        [0, 255, 150],
        [0, 0, 29],
        [85, 85, 255],
        [0, 0, 0],
    ]
    assert convert_colors(colors, "hue")[0].tolist() == [[0] * 3, [85] * 3, [171] * 3, [0] * 3, [0] * 3]
    assert convert_colors(colors, "intensity")[0].tolist() == [
        [76] * 3,
        [150] * 3,
        [29] * 3,
        [255] * 3,
        [0] * 3,
    ]
    for color_space in COLOR_SPACES:
        assert convert_colors(PHOTOGRAPH, color_space).shape == PHOTOGRAPH.shape


def star(n_leaves: int) -> Regions:
    """Single pixels in a row above a region that touches all of them."""
    boxes = np.array([[0, 1, n_leaves, 2], *([x, 0, x + 1, 1] for x in range(n_leaves))], np.int32)
    pairs = np.array([[0, leaf] for leaf in range(1, n_leaves + 1)], np.int32)
    sizes = np.array([n_leaves, *[1] * n_leaves], np.int32)
    histograms = np.full((n_leaves + 1, 3), ONE // 3, np.uint16)
    return Regions(sizes, boxes, pairs, histograms, histograms)


@pytest.mark.parametrize(("n_leaves", "ends_early"), [(300, False), (5000, True)])
def test_grouping_ends_where_one_region_touches_thousands(n_leaves: int, ends_early: bool) -> None:
    boxes = group(star(n_leaves), Similarity(1, 1, 1, 1))
    assert boxes[-1].tolist() == [0, 0, n_leaves, 2]
    if not ends_early:
        assert len(boxes) == n_leaves
    else:  # about 20 similarities for each of the first 10,000 were allowed, 5,000 a merge
        assert len(boxes) == pytest.approx(1 + 20 * 2 - 1, abs=2)


def test_the_boxes_of_a_grid_of_dots_have_ranks() -> None:
    y, x = np.mgrid[:400, :400]
    dots = ((x % 8 - 3) ** 2 + (y % 8 - 3) ** 2 < 6).astype(np.uint8) * 255
    boxes = selective_search(np.dstack([dots] * 3), min_side=0, max_boxes=10_000)
    assert [0, 0, 400, 400] in boxes.tolist()
    assert len(boxes) > 1
