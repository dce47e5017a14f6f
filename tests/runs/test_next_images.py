"""Which images are labeled next, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from detector.detections import Detections
from detector.features.encoder import FeatureMaps
from detector.runs.next_images import image_features, select, uncertainty


def found(scores: list[float], probabilities: list[float] | None = None) -> Detections:
    boxes = np.tile(np.array([[0, 0, 8, 8]], np.float32), (len(scores), 1))
    chances = None if probabilities is None else np.array(probabilities, np.float32)
    return Detections(boxes, np.zeros(len(scores), np.int64), np.array(scores, np.float32), ("dog",), chances)


def test_doubt_is_that_of_the_five_most_doubtful_boxes() -> None:
    assert uncertainty(found([])) == 0
    # 4 p (1 - p): 0.75, 1 and 0; two are missing
    assert uncertainty(found([3, 2, 1], [0.75, 0.5, 0])) == pytest.approx(1.75 / 5)
    assert uncertainty(found([7, 6, 5, 4, 3, 2, 1], [1, 1, 0.5, 0.5, 0.5, 0.5, 0.5])) == pytest.approx(1)
    # without calibration, the distance to the margin's borders: 0.75, 0.5, 0, 0
    assert uncertainty(found([1.5, 0.25, -0.5, -1])) == pytest.approx(1.25 / 5)


def test_an_image_looks_like_the_mean_of_its_finest_map() -> None:
    fine = np.zeros((2, 2, 3), np.float16)
    fine[0, 0] = 4, 8, 0
    maps = FeatureMaps((np.ones((1, 1, 3), np.float16), fine, np.empty((0, 0, 3), np.float16)), (1, 2, 3), (8, 8))
    assert image_features(maps).tolist() == [1, 2, 0]
    assert image_features(maps).dtype == np.float32


def test_variety_counts_next_to_doubt() -> None:
    # less their mean (0, 0): opposite directions are 1 apart, right angles a half, equal ones nothing
    looks = np.array([[2, 0], [4, 0], [-6, 0], [0, 5], [0, -5]], np.float32)
    doubts = np.array([0.9, 0.8, 0.2, 0.5, 0.3])
    # after the first: 0.8 * 0, 0.2 * 1, 0.5 * 0.5, 0.3 * 0.5; after the second 0.2 * 0.5, 0.3 * 0.5
    assert select(doubts, looks, 3) == [0, 3, 4]
    assert select(doubts, looks, 9) == [0, 3, 4, 2, 1]
    assert select(doubts, looks, 1) == [0]
    # nothing is doubted, or all look alike: the order given
    assert select(np.zeros(3), looks[:3], 3) == [0, 1, 2]
    assert select(np.array([0.1, 0.3, 0.2]), np.ones((3, 2), np.float32), 3) == [1, 2, 0]
