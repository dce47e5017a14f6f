"""Boxes of large images, found on a smaller copy."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes, iou
from detector.build import TILE_PIXELS, build_proposer, tile_proposer
from detector.config.detector import ProposalConfig
from detector.proposals.selective_search import propose_reduced, selective_search


def test_boxes_by_hand() -> None:
    seen = []

    def propose(image: NDArray[np.uint8]) -> Boxes:
        seen.append(image.shape)
        return as_boxes([[5, 2, 50, 20]])

    image = np.zeros((40, 100, 3), np.uint8)
    assert propose_reduced(image, propose, 1000).tolist() == [[10, 4, 100, 40]]
    assert propose_reduced(image, propose, 4000).tolist() == [[5, 2, 50, 20]]
    assert propose_reduced(np.zeros((1, 4000, 3), np.uint8), propose, 1000)[0, 0] == 10
    assert seen == [(20, 50, 3), (40, 100, 3), (1, 2000, 3)]
    seen.clear()
    # the smaller copy counts
    assert propose_reduced(image, propose, 2000, zoom=0.5).tolist() == [[10, 4, 100, 40]]
    assert propose_reduced(image, propose, 1000, zoom=0.9).tolist() == [[10, 4, 100, 40]]
    assert propose_reduced(image, propose, zoom=0.25).tolist() == [[20, 8, 100, 40]]
    assert propose_reduced(image, propose).tolist() == [[5, 2, 50, 20]]
    assert seen == [(20, 50, 3), (20, 50, 3), (10, 25, 3), (40, 100, 3)]


@pytest.mark.parametrize("size", [(997, 1213), (1400, 600)])
def test_boxes_lie_in_the_image_and_one_is_all_of_it(cat: NDArray[np.uint8], size: tuple[int, int]) -> None:
    height, width = size
    large = cv2.resize(cat, (width, height), interpolation=cv2.INTER_LINEAR)
    boxes = propose_reduced(large, partial(selective_search, max_boxes=500), 100_000)
    assert boxes.dtype == np.float32
    assert (boxes >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
    whole = as_boxes([[0, 0, width, height]])
    assert iou(boxes, whole).max() > 0.9999
    assert len(np.unique(boxes, axis=0)) == 500


def test_the_recipe_names_the_limit(cat: NDArray[np.uint8]) -> None:
    plain, reduced = (build_proposer(ProposalConfig(max_boxes=100, max_pixels=limit))(cat) for limit in (None, 20_000))
    np.testing.assert_array_equal(plain, selective_search(cat, max_boxes=100))
    assert not np.array_equal(plain, reduced)
    assert (reduced[:, 2:] - reduced[:, :2]).min() > 2 * 20  # 20 pixels of the copy


def test_tiles_are_searched_on_fewer_pixels_at_most_at_the_zoom_of_the_recipe(cat: NDArray[np.uint8]) -> None:
    limited = build_proposer(ProposalConfig(max_boxes=100, max_pixels=200_000, zoom=0.9))
    searched = partial(selective_search, max_boxes=100)
    np.testing.assert_array_equal(limited(cat), propose_reduced(cat, searched, zoom=0.9))
    np.testing.assert_array_equal(tile_proposer(limited)(cat), propose_reduced(cat, searched, 200_000 // TILE_PIXELS))
    unlimited = build_proposer(ProposalConfig(max_boxes=100, max_pixels=None, zoom=0.5))
    np.testing.assert_array_equal(tile_proposer(unlimited)(cat), propose_reduced(cat, searched, zoom=0.5))
