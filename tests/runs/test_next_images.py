"""Select images to label next, by hand."""

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


def test_uncertainty_is_the_mean_of_the_five_least_certain_boxes() -> None:
    assert uncertainty(found([])) == 0
    # 4 p (1 - p): 0.75, 1 and 0; two are missing
    assert uncertainty(found([3, 2, 1], [0.75, 0.5, 0])) == pytest.approx(1.75 / 5)
    assert uncertainty(found([7, 6, 5, 4, 3, 2, 1], [1, 1, 0.5, 0.5, 0.5, 0.5, 0.5])) == pytest.approx(1)
    # without calibration, the distance to the margin's borders: 0.75, 0.5, 0, 0
    assert uncertainty(found([1.5, 0.25, -0.5, -1])) == pytest.approx(1.25 / 5)


def test_image_features_are_the_mean_of_the_finest_map() -> None:
    fine = np.zeros((2, 2, 3), np.float16)
    fine[0, 0] = 4, 8, 0
    maps = FeatureMaps((np.ones((1, 1, 3), np.float16), fine, np.empty((0, 0, 3), np.float16)), (1, 2, 3), (8, 8))
    assert image_features(maps).tolist() == [1, 2, 0]
    assert image_features(maps).dtype == np.float32


def test_selection_weighs_uncertainty_by_distance() -> None:
    # less their mean (0, 0): opposite directions are 1 apart, right angles a half, equal ones nothing
    features = np.array([[2, 0], [4, 0], [-6, 0], [0, 5], [0, -5]], np.float32)
    uncertainties = np.array([0.9, 0.8, 0.2, 0.5, 0.3])
    # after the first: 0.8 * 0, 0.2 * 1, 0.5 * 0.5, 0.3 * 0.5; after the second 0.2 * 0.5, 0.3 * 0.5
    assert select(uncertainties, features, 3) == [0, 3, 4]
    assert select(uncertainties, features, 9) == [0, 3, 4, 2, 1]
    # what all images share is no likeness
    assert select(uncertainties, features + np.float32(50), 9) == [0, 3, 4, 2, 1]
    assert select(uncertainties, features, 1) == [0]
    # no uncertainty, or equal features: the given order
    assert select(np.zeros(3), features[:3], 3) == [0, 1, 2]
    assert select(np.array([0.1, 0.3, 0.2]), np.ones((3, 2), np.float32), 3) == [1, 2, 0]
