"""Box regressors trained on a dataset: their boxes and deltas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.boxes import as_boxes, decode_deltas, iou
from detector.config.detector import RegressionConfig
from detector.training import box_regression as regressor_training
from detector.training.box_regression import train_regressors
from detector.training.training_set import TrainingSet
from tests.training.small import small_set

RED, GREEN = [32, 32, 96, 96], [96, 96, 160, 160]


@pytest.fixture
def images(tmp_path: Path) -> TrainingSet:
    """Two images with an object each, and boxes that are too far to the right, by a quarter and by half of a side."""
    boxes = {
        "a": [[48, 32, 112, 96], [64, 32, 128, 96], [0, 0, 16, 16]],
        "b": [[96, 80, 160, 144], [96, 112, 160, 176]],
    }
    return small_set(tmp_path, {"a": [(RED, 0)], "b": [(GREEN, 1)]}, boxes)


def learned(images: TrainingSet, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[tuple[Any, Any]]:
    """The features and deltas that each class was fitted to."""
    seen = []

    def fit(features: Any, deltas: Any, regularization: float) -> Any:
        seen.append((features.copy(), deltas))
        assert regularization == 7.0
        return np.zeros((features.shape[1], 4), np.float32), np.zeros(4, np.float32)

    monkeypatch.setattr(regressor_training, "fit_regressor", fit)
    train_regressors(images, RegressionConfig(regularization=7.0, **settings), seed=3)
    return seen


def test_boxes_are_moved_onto_their_objects(images: TrainingSet) -> None:
    """All boxes of class 0 lie to the right of their object, all of class 1 above or below of it: what is learned of
    a mean alone, as with a regularization that leaves nothing else, moves them towards it."""
    regressors = train_regressors(images, RegressionConfig(min_iou=0.3, regularization=1e9), seed=3)
    # the object itself, a box a quarter and one half of a side too far: a quarter on average, to the left
    np.testing.assert_allclose(regressors.biases[0], [-0.25, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(regressors.biases[1], [0, 0, 0, 0], atol=1e-5)
    assert not regressors.biases[2].any() and not regressors.weights[2].any()
    before = as_boxes([[64, 32, 128, 96]])
    after = decode_deltas(before, regressors.biases[:1])
    assert iou(after, as_boxes([RED]))[0, 0] > iou(before, as_boxes([RED]))[0, 0] + 0.2


def test_regressors_take_features_as_they_are_pooled(images: TrainingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, biases = np.arange(12, dtype=np.float32).reshape(3, 4), np.full(4, 100, np.float32)
    monkeypatch.setattr(regressor_training, "fit_regressor", lambda *_: (weights, biases))
    ready = replace(images, mean=np.float32(50), scale=np.float32(0.5))
    regressors = train_regressors(ready, RegressionConfig(min_iou=0.3), seed=3)
    np.testing.assert_allclose(regressors.weights[0], weights / 2)
    np.testing.assert_allclose(regressors.biases[0], biases - 25 * weights.sum(0))


def test_features_are_of_the_boxes_and_deltas_lead_from_them(
    images: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = replace(images, mean=np.float32(50), scale=np.float32(0.5))
    (red, red_deltas), (green, _) = learned(ready, monkeypatch, min_iou=0.3)
    # shares of the square that the boxes cover: all, three quarters and half, but for cells that are cut
    assert red.shape == (3, 3)
    np.testing.assert_allclose(red[:, 0], (200 - 50) / 2)  # the largest cell is in each of them
    np.testing.assert_allclose(red[:, 1:], (0 - 50) / 2)
    np.testing.assert_allclose(red_deltas, np.array([[0, 0, 0, 0], [-0.25, 0, 0, 0], [-0.5, 0, 0, 0]]), atol=1e-6)
    assert (green[:, 1] == 75).all()


@pytest.mark.parametrize(("min_iou", "count"), [(0.32, 3), (1 / 3, 2), (0.59, 2), (0.6, 1), (0.99, 1)])
def test_only_boxes_above_the_overlap_are_trained_on(
    images: TrainingSet, monkeypatch: pytest.MonkeyPatch, min_iou: float, count: int
) -> None:
    """A quarter and half of a side beside it they overlap by 3/5 and by 1/3; at exactly that, they do not count."""
    (red, _), *_ = learned(images, monkeypatch, min_iou=min_iou)
    assert len(red) == count


def test_a_limited_number_of_random_boxes_per_class_is_trained_on(
    images: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for seed in range(20):
        shown: list[Any] = []

        def fit(features: Any, deltas: Any, regularization: float, shown: list[Any] = shown) -> Any:
            shown.append(deltas)
            return np.zeros((features.shape[1], 4), np.float32), np.zeros(4, np.float32)

        monkeypatch.setattr(regressor_training, "fit_regressor", fit)
        train_regressors(images, RegressionConfig(min_iou=0.3, max_samples=2), seed=seed)
        assert [len(each) for each in shown] == [2, 2]
        seen.add(tuple(np.round(shown[0][:, 0], 2).tolist()))
    # rows ascend, whichever are drawn
    assert seen == {(0.0, -0.25), (0.0, -0.5), (-0.25, -0.5)}


def test_regressors_of_scaled_features_work_on_unscaled_ones(images: TrainingSet) -> None:
    ready = replace(images, mean=np.array([10, 20, 30], np.float32), scale=np.array([0.5, 1, 2], np.float32))
    plain = train_regressors(ready, RegressionConfig(min_iou=0.3, regularization=1e-3), seed=3)
    features = images.features(0, as_boxes([RED]))
    scaled = ready.features(0, as_boxes([RED]))
    np.testing.assert_allclose(scaled, (features - [10, 20, 30]) * [0.5, 1, 2], rtol=1e-5)
    # fitted to boxes of equal features: the mean of what they need, whatever the scale
    np.testing.assert_allclose(plain.predict(features, np.array([0]))[0], [-0.25, 0, 0, 0], atol=5e-3)
