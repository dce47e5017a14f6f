"""What only single pixels show: weak slopes, rounded colors, the smallest region, ranks, memory of large images."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.proposals import selective_search as module
from detector.proposals.grouping import large_enough, near_duplicates_last, random_order, without_duplicates
from detector.proposals.regions import ONE, color_bins, texels, texture_histograms
from detector.proposals.selective_search import (
    CTSF,
    MODES,
    TSF,
    F,
    Mode,
    S,
    convert_colors,
    propose_reduced,
    selective_search,
)
from detector.proposals.sources import _selected
from tests.proposals.photograph import PHOTOGRAPH


def bins_of_ramp(step: int) -> dict[tuple[int, int], int]:
    """How many pixels of the middle of a ramp, ``step`` levels a pixel, are in which direction and bin."""
    channel = np.tile(np.arange(30) * step, (30, 1)).astype(np.uint8)
    found = texels(channel, 0.8, 10, 0.43)
    rows, columns = np.divmod(found.pixels, 30)
    middle = (rows > 5) & (rows < 24) & (columns > 5) & (columns < 24)
    values, counts = np.unique(found.bins[middle], return_counts=True)
    return {divmod(value, 10): count for value, count in zip(values.tolist(), counts.tolist(), strict=True)}


def test_weak_slopes_count_from_half_a_bin_on() -> None:
    """A bin is 255 * .43 / 9 = 12.2 levels a pixel wide: half of it is between 6 and 7, along the slope alone."""
    assert bins_of_ramp(6) == {}
    assert bins_of_ramp(7) == {(0, 1): 18 * 18}
    # at 45 degrees, 8.6 and more
    assert bins_of_ramp(8) == {(0, 1): 18 * 18}
    assert bins_of_ramp(-8 % 256) != bins_of_ramp(8)


def test_slopes_beyond_the_last_bin_are_in_it() -> None:
    step = np.zeros((20, 20), np.uint8)
    step[:, 10:] = 255
    found = texels(step, 0.8, 10, 0.1)
    assert {bin for _, bin in (divmod(value, 10) for value in found.bins.tolist())} >= {9}
    assert max(found.bins.tolist()) < 80
    assert (np.diff(found.pixels) >= 0).all()
    # what is in no listed bin is in the first: each direction holds all pixels of the region
    histogram = texture_histograms(found, np.zeros(400, np.int32), np.array([400], np.int32)).reshape(8, 10)
    np.testing.assert_allclose(histogram.sum(1) / ONE, np.full(8, 1 / 8), atol=5 / ONE)


@pytest.mark.parametrize(
    ("color", "expected"),
    # shares of 255 rounded: 42.5, 85; 145.7, 72.9; 127.5, 127.5; 63.75, 127.5
    [
        ((1, 2, 3), (43, 85)),
        ((200, 100, 50), (146, 73)),
        ((7, 7, 0), (128, 128)),
        ((1, 2, 1), (64, 128)),
        ((0, 0, 0), (0, 0)),
        ((0, 0, 9), (0, 0)),
    ],
)
def test_shares_of_colors_are_rounded(color: tuple[int, ...], expected: tuple[int, int]) -> None:
    found = convert_colors(np.array([[color]], np.uint8), "rgi")
    assert tuple(found[0, 0, :2].tolist()) == expected
    assert found.dtype == np.uint8


def test_color_bins_are_rounded_to_the_nearest() -> None:
    """Of three bins the second begins at a quarter of the range and ends at three quarters."""
    image = np.array([[[63, 64, 191], [192, 0, 255]]], np.uint8)
    assert color_bins(image, 3).tolist() == [[0, 3 + 1, 6 + 1], [2, 3 + 0, 6 + 2]]
    for n_bins in (1, 86):
        with pytest.raises(ValueError, match=f"color bins must be 2 to 85 per channel, but got {n_bins}"):
            color_bins(image, n_bins)
    assert color_bins(image, 85).max() == 254 and color_bins(image, 2).max() == 5
    for n_bins in (1, 33):
        with pytest.raises(ValueError, match=f"texture bins must be 2 to 32 per direction, but got {n_bins}"):
            texels(image[..., 0], 0.8, n_bins, 0.43)


@pytest.mark.parametrize("k", [30, 100])
def test_the_smallest_region_has_as_many_pixels_as_the_scale_of_observation(k: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    boxes = selective_search(noise, Mode(("hsv",), (k,), (CTSF,)), max_boxes=10_000, min_side=0)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert areas.min() >= k
    assert areas.min() < 8 * k


def test_modes_are_the_papers() -> None:
    assert CTSF == (1, 1, 1, 1) and TSF == (0, 1, 1, 1) and F == (0, 0, 0, 1) and S == (0, 0, 1, 0)
    counts = {name: len(mode.color_spaces) * len(mode.ks) * len(mode.similarities) for name, mode in MODES.items()}
    assert counts == {"single": 1, "fast": 8, "quality": 80}
    assert MODES["single"].color_spaces == ("hsv",)
    assert MODES["fast"].ks == (50, 100) and MODES["quality"].ks == (50, 100, 150, 300)
    constants = {(m.sigma, m.color_bins, m.texture_bins, m.texture_sigma, m.max_gradient) for m in MODES.values()}
    assert constants == {(0.8, 25, 10, 0.8, 0.43)}


@pytest.mark.parametrize(
    ("limit", "most"), [(0, 1), (PHOTOGRAPH[:60, :60].size, 1), (PHOTOGRAPH[:60, :60].size + 1, 3)]
)
@pytest.mark.parametrize("threads", [1, 2])
def test_of_a_large_image_one_color_space_is_in_memory_at_a_time(
    limit: int, most: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.ascontiguousarray(PHOTOGRAPH[:60, :60])
    mode = Mode(("hsv", "lab", "intensity"), (100,), (CTSF,))
    alive: list[int] = []
    kept: list[Any] = []
    prepare, groupings = module._prepare, module._groupings

    def watched(*arguments: Any) -> Any:
        prepared = prepare(*arguments)
        kept.append(weakref.ref(prepared.colors))
        return prepared

    def counted(*arguments: Any) -> Any:
        alive.append(sum(each() is not None for each in kept))
        return groupings(*arguments)

    monkeypatch.setattr(module, "_prepare", watched)
    monkeypatch.setattr(module, "_groupings", counted)
    monkeypatch.setattr(module, "LARGE_IMAGE", limit)
    selective_search(image, mode, threads=threads)
    assert len(kept) == len(alive) == 3
    if threads == 1:
        assert max(alive) == 1
    else:
        # with room, as many as the threads have made ready; all of them stay until the end
        assert max(alive) <= most
        assert (max(alive) > 1) == (most > 1)


def test_ranks_are_weighed_by_chance() -> None:
    """A rank of 1 comes before one of 1,000 nearly always; a seed gives one order."""
    ranks = np.array([1000, 1, 1000, 1])
    orders = np.array([random_order(ranks, seed) for seed in range(50)])
    assert np.mean(ranks[orders[:, :2]] == 1) > 0.95
    assert len({tuple(order[:2]) for order in orders.tolist()}) == 2
    assert random_order(ranks, 7).tolist() == random_order(ranks, 7).tolist()
    numbers = np.random.default_rng(3).random(4)
    assert random_order(ranks, 3).tolist() == np.argsort(ranks * numbers).tolist()


def test_the_first_of_equal_boxes_is_left() -> None:
    boxes = np.array([[0, 0, 5, 5], [1, 0, 5, 5], [0, 0, 5, 5], [0, 1, 5, 5], [0, 0, 4, 5], [0, 0, 5, 4], [1, 0, 5, 5]])
    assert without_duplicates(boxes.astype(np.int32), 5, 5).tolist() == [0, 1, 3, 4, 5]
    # corners of a wide image are not taken for others
    wide = np.array([[0, 1, 3, 2], [7, 0, 8, 2], [0, 1, 3, 2], [7, 0, 8, 1]])
    assert without_duplicates(wide.astype(np.int32), 2, 8).tolist() == [0, 1, 3]


def test_small_boxes_are_dropped_but_never_the_image() -> None:
    boxes = np.array([[0, 0, 30, 10], [0, 0, 20, 10], [0, 0, 19, 10], [0, 0, 20, 9], [0, 1, 30, 10]], np.int32)
    assert large_enough(boxes, 10, 10, 30).tolist() == [True, True, True, False, False]
    assert large_enough(boxes, 20, 10, 30).tolist() == [True, False, False, False, False]
    assert large_enough(boxes, 9, 10, 30).tolist() == [True] * 5


def test_near_duplicates_come_last_from_the_limit_on() -> None:
    # 90 of 100 is at the limit and stays, 91 of 100 is beyond it
    boxes = np.array([[0, 0, 100, 10], [0, 0, 90, 10], [0, 0, 91, 10], [200, 0, 300, 10], [0, 0, 99, 10]], np.int32)
    assert near_duplicates_last(boxes, 0.9, 100).tolist() == [0, 1, 3, 2, 4]
    # once enough are found, what is left belongs to the second part
    assert near_duplicates_last(boxes, 0.9, 2).tolist() == [0, 1, 2, 3, 4]
    assert near_duplicates_last(boxes, 0.9, 1).tolist() == [0, 1, 2, 3, 4]
    apart = np.array([[0, 0, 10, 10], [0, 20, 10, 30], [20, 0, 30, 10]], np.int32)
    assert near_duplicates_last(apart, 0.9, 100).tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(3))
def test_near_duplicates_equal_a_loop_over_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    corners = random.integers(0, 6, (80, 2))
    boxes = np.concatenate([corners, corners + random.integers(12, 40, (80, 2))], axis=1).astype(np.int32)

    def overlap(a: NDArray[np.int32], b: NDArray[np.int32]) -> float:
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        areas = [int((each[2] - each[0]) * (each[3] - each[1])) for each in (a, b)]
        return width * height / (sum(areas) - width * height) if width > 0 and height > 0 else 0

    for limit in (0.7, 0.9):
        first: list[int] = []
        for row in range(80):
            if all(overlap(boxes[row], boxes[other]) <= limit for other in first):
                first.append(row)
        expected = first + [row for row in range(80) if row not in first]
        assert near_duplicates_last(boxes, limit, 1000).tolist() == expected


def test_boxes_of_other_programs_are_selected_alike() -> None:
    boxes = np.array([[0, 0, 20, 20], [0, 0, 19, 20], [0, 0, 20, 19], [5, 5, 25, 25], [0, 0, 20, 20], [0, 0, 40, 40]])
    found = _selected(boxes.astype(np.float32), 20, 2)
    assert found.tolist() == [[0, 0, 20, 20], [5, 5, 25, 25]]
    assert _selected(boxes.astype(np.float32), 20, 9).tolist() == [[0, 0, 20, 20], [5, 5, 25, 25], [0, 0, 40, 40]]


def test_boxes_on_a_copy_are_cut_to_the_image() -> None:
    """Sides of 3 and 7 pixels become 2 and 5: what is scaled back would end a hair beyond them."""
    image = np.zeros((3, 7, 3), np.uint8)
    found = propose_reduced(image, lambda copy: np.array([[0, 0, copy.shape[1], copy.shape[0]]], np.float32), 12)
    assert found.tolist() == [[0, 0, 7, 3]]
    over = propose_reduced(image, lambda copy: np.array([[1, 1, 99, 99]], np.float32), 12)
    assert over[0, 2:].tolist() == [7, 3]
    assert over[0, 0] == pytest.approx(7 / 5) and over[0, 1] == pytest.approx(3 / 2)
