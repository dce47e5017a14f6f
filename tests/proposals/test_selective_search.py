"""Selective search as a whole: what holds for any image."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image

from detector.boxes import iou
from detector.proposals.regions import region_extents
from detector.proposals.selective_search import CTSF, MODES, Mode, hierarchy, selective_search
from tests.proposals.photograph import PHOTOGRAPH


def check_boxes(boxes: Any, image: Any, min_side: Any = 20) -> None:
    height, width = image.shape[:2]
    assert boxes.dtype == np.float32
    assert boxes.ndim == 2
    assert boxes.shape[1] == 4
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= width).all()
    assert (boxes[:, 3] <= height).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes) > 0
    sides = boxes[:, 2:] - boxes[:, :2]
    whole = (sides == (width, height)).all(axis=1)
    assert whole.sum() == 1
    assert (sides[~whole] >= min_side).all()


@pytest.mark.parametrize("mode", MODES)
def test_boxes_of_a_photograph(mode: Any) -> None:
    check_boxes(selective_search(PHOTOGRAPH, mode, max_boxes=100_000), PHOTOGRAPH)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    n_colors=st.sampled_from([1, 2, 256]),
    seed=st.integers(0, 99),
)
def test_boxes_of_any_small_image(height: Any, width: Any, n_colors: Any, seed: Any) -> None:
    image = np.random.default_rng(seed).integers(0, n_colors, (height, width, 3)).astype(np.uint8)
    check_boxes(selective_search(image, max_boxes=100_000, threads=1), image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 37), (37, 1), (5, 5), (64, 48)])
def test_a_constant_image_gives_one_box(shape: Any) -> None:
    height, width = shape
    assert selective_search(np.full((*shape, 3), 130, np.uint8)).tolist() == [[0, 0, width, height]]


def test_threads_and_calls_in_between_change_nothing() -> None:
    alone = selective_search(PHOTOGRAPH, seed=3, threads=1)
    selective_search(PHOTOGRAPH, seed=4, threads=3)
    np.random.default_rng().random(5)
    for threads in (2, 4, None):
        assert np.array_equal(selective_search(PHOTOGRAPH, seed=3, threads=threads), alone)


def test_large_images_give_the_same_boxes_with_less_memory(monkeypatch: Any) -> None:
    boxes = selective_search(PHOTOGRAPH)
    monkeypatch.setattr("detector.proposals.selective_search.LARGE_IMAGE", 0)
    assert np.array_equal(selective_search(PHOTOGRAPH), boxes)


def test_seeds_change_the_order_alone() -> None:
    first, second = (selective_search(PHOTOGRAPH, max_boxes=100_000, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(np.unique(first, axis=0), np.unique(second, axis=0))


def test_max_boxes_takes_the_first() -> None:
    boxes = selective_search(PHOTOGRAPH, max_boxes=100_000)
    assert np.array_equal(selective_search(PHOTOGRAPH, max_boxes=50), boxes[:50])
    assert selective_search(PHOTOGRAPH, max_boxes=0).shape == (0, 4)


def test_min_side_drops_boxes_and_keeps_the_order() -> None:
    boxes = selective_search(PHOTOGRAPH, max_boxes=100_000, min_side=0, ranking="random")
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    assert (sides < 60).any()
    large = selective_search(PHOTOGRAPH, max_boxes=100_000, min_side=60, ranking="random")
    assert np.array_equal(large, boxes[sides >= 60])


def flat_rectangles(seed: int) -> NDArray[np.uint8]:
    """Flat rectangles: no tie decides anything, for all that touch differ by color and size."""
    random = np.random.default_rng(seed)
    image = np.empty((120, 160, 3), np.uint8)
    image[:] = random.integers(0, 256, 3)
    for _ in range(12):
        x1, y1 = random.integers(0, (110, 70))
        width, height = random.integers(22, 50, 2)
        image[y1 : y1 + height, x1 : x1 + width] = random.integers(0, 256, 3)
    return image


@pytest.mark.parametrize("seed", range(8))
def test_a_mirrored_image_gives_mirrored_boxes_where_no_tie_decides(seed: Any) -> None:
    image = flat_rectangles(seed)
    mode = MODES["fast"]._replace(sigma=0)
    boxes = selective_search(image, mode, min_side=1)
    mirrored = selective_search(np.ascontiguousarray(image[:, ::-1]), mode, min_side=1)
    mirrored[:, [0, 2]] = image.shape[1] - mirrored[:, [2, 0]]
    assert len(boxes) > 10
    assert np.array_equal(np.unique(boxes, axis=0), np.unique(mirrored, axis=0))


def test_a_mirrored_photograph_gives_nearly_the_mirrored_boxes() -> None:
    boxes = selective_search(PHOTOGRAPH, max_boxes=100_000)
    mirrored = selective_search(np.ascontiguousarray(PHOTOGRAPH[:, ::-1]), max_boxes=100_000)
    mirrored[:, [0, 2]] = PHOTOGRAPH.shape[1] - mirrored[:, [2, 0]]
    assert (iou(boxes, mirrored).max(axis=1) > 0.7).mean() > 0.9


def test_objects_are_found() -> None:
    image = load_sample_image("flower.jpg")
    flower = np.array([[175, 55, 470, 347]], np.float32)
    # "diverse" has put the best box behind one that nearly equals it.
    for ranking, least in (("random", 0.8), ("diverse", 0.75)):
        boxes = selective_search(np.ascontiguousarray(image), max_boxes=500, ranking=ranking)
        assert iou(flower, boxes).max() > least


def test_the_rank_of_a_box_is_its_place_in_the_hierarchy() -> None:
    mode = Mode(("lab",), (50,), (CTSF,))
    boxes = [selective_search(PHOTOGRAPH, mode, max_boxes=100_000, seed=seed, min_side=0) for seed in range(30)]
    places = np.array([np.flatnonzero((each == (0, 0, 300, 260)).all(axis=1))[0] for each in boxes])
    assert np.median(places) < 5  # the last joined has rank 1
    smallest = boxes[0][np.argmin((boxes[0][:, 2:] - boxes[0][:, :2]).prod(axis=1))]
    places = np.array([np.flatnonzero((each == smallest).all(axis=1))[0] for each in boxes])
    assert np.median(places) > len(boxes[0]) / 3


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((30, 30), np.uint8),
        np.zeros((30, 30, 4), np.uint8),
        np.zeros((30, 30, 1), np.uint8),
        np.zeros((30, 30, 3), np.float32),
        np.zeros((30, 30, 3), np.uint16),
        np.zeros((0, 30, 3), np.uint8),
        [[1, 2, 3]],
    ],
)
def test_what_is_not_an_image_is_refused(image: Any) -> None:
    with pytest.raises(ValueError, match="image must be"):
        selective_search(image)


def test_views_that_are_not_contiguous_are_images_too() -> None:
    view = PHOTOGRAPH[::2, ::-2]
    assert np.array_equal(selective_search(view), selective_search(np.ascontiguousarray(view)))


def test_diverse_ranking_puts_near_duplicates_last() -> None:
    random = selective_search(PHOTOGRAPH, max_boxes=100_000, ranking="random")
    diverse = selective_search(PHOTOGRAPH, max_boxes=100_000, ranking="diverse")
    first: list[Any] = []
    last: list[Any] = []
    for box in random:
        is_near = len(first) > 0 and iou(box[None], np.array(first)).max() > 0.9
        (last if is_near else first).append(box)
    assert 10 < len(first) < len(random) - 10
    assert np.array_equal(diverse, np.array(first + last))
    assert np.array_equal(selective_search(PHOTOGRAPH, max_boxes=30, ranking="diverse"), diverse[:30])


def test_wrong_settings_are_refused(monkeypatch: Any) -> None:
    with pytest.raises(ValueError, match="ranking must be one of random, diverse, but got 'best'"):
        selective_search(PHOTOGRAPH, ranking="best")
    with pytest.raises(ValueError, match="mode must be one of single, fast, quality, but got 'slow'"):
        selective_search(PHOTOGRAPH, "slow")
    with pytest.raises(ValueError, match="threads must be at least 1, but got 0"):
        selective_search(PHOTOGRAPH, threads=0)
    with pytest.raises(ValueError, match="color space must be one of"):
        selective_search(PHOTOGRAPH, Mode(("cmyk",), (50,), (CTSF,)))
    monkeypatch.setenv("DETECTOR_THREADS", "two")
    with pytest.raises(ValueError, match="DETECTOR_THREADS must be a whole number of at least 1, but is 'two'"):
        selective_search(PHOTOGRAPH)
    monkeypatch.setenv("DETECTOR_THREADS", "0")
    with pytest.raises(ValueError, match="of at least 1, but is '0'"):
        selective_search(PHOTOGRAPH)


def test_the_hierarchy_holds_the_parts_of_every_box() -> None:
    image = PHOTOGRAPH
    found = hierarchy(image)
    n_regions = found.labels.max() + 1
    assert found.labels.shape == image.shape[:2] and len(found.parts) == len(found.boxes) == n_regions - 1
    boxes = [*region_extents(found.labels, n_regions)[1], *found.boxes]
    for row, (a, b) in enumerate(found.parts):
        assert a < n_regions + row and b < n_regions + row
        around = [*np.minimum(boxes[a][:2], boxes[b][:2]), *np.maximum(boxes[a][2:], boxes[b][2:])]
        assert around == found.boxes[row].tolist()
    # all but the last region are a part once
    assert sorted(found.parts.ravel().tolist()) == list(range(2 * n_regions - 2))
    proposed = {tuple(box) for box in selective_search(image, "single", 10**6, min_side=1).astype(int).tolist()}
    assert {tuple(box) for box in found.boxes.tolist()} <= proposed


def test_an_image_of_one_region_has_no_merges() -> None:
    found = hierarchy(np.zeros((20, 30, 3), np.uint8))
    assert (found.labels.shape, len(found.parts), len(found.boxes)) == ((20, 30), 0, 0)
