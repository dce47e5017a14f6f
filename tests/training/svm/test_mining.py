"""Hard-negative mining: targets, the buffer, and a pass that finds what a slow full training finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.config.detector import SVMConfig
from detector.heads.linear import LinearSVMs
from detector.training.svm import mining
from detector.training.svm.dual_solver import solve_dual
from detector.training.svm.mining import MiningState
from detector.training.svm.problem import objectives
from detector.training.svm.sample_buffer import SampleBuffer
from detector.training.training_set import class_overlaps, mining_targets, unique_rows
from tests.training.svm.fake_samples import FakeImages

N_FEATURES, N_CLASSES = 12, 2


def mine(images: Any, config: SVMConfig, state: MiningState, report: Any = None) -> LinearSVMs:
    return mining.mine(images, config, solve_dual, state, report=report)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the number of images and samples that mining starts with, and its growth."""

    def set_constants(images: int, samples: int, growth: float) -> None:
        monkeypatch.setattr(mining, "START_IMAGES", images)
        monkeypatch.setattr(mining, "START_SAMPLES", samples)
        monkeypatch.setattr(mining, "GROWTH", growth)

    return set_constants


@pytest.fixture(scope="module")
def images() -> FakeImages:
    """30 images of 60 boxes; the first box of each is an object of one of 2 classes, some boxes are ignored."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((30, 60, N_FEATURES)).astype(np.float32) * 5
    targets = np.full((30, 60, N_CLASSES), -1, np.int8)
    targets[:, 1:4] = 0
    for index in range(30):
        targets[index, 0] = -1
        targets[index, 0, index % 2] = 1
        features[index, 0, index % 2] += 12
    return FakeImages(features, targets)


def fresh(capacity: int = 2000, n_classes: int = N_CLASSES) -> MiningState:
    return MiningState(SampleBuffer(capacity, N_FEATURES, n_classes))


def test_targets_by_hand() -> None:
    overlaps = np.array([[0.6, 0.2], [0.6, 0.5], [0.3, 0.29], [0.0, 0.0]], np.float32)
    targets = mining_targets(overlaps, np.array([0]))
    # the object of class 0 is a negative of class 1; at exactly 0.3 a box is ignored
    assert targets.tolist() == [[1, -1], [0, 0], [0, -1], [-1, -1]]


def test_overlaps_with_classes() -> None:
    overlaps = np.array([[0.1, 0.4, 0.2], [0.9, 0.0, 0.3]], np.float32)
    best = class_overlaps(overlaps, np.array([2, 0, 2]), 4)
    np.testing.assert_allclose(best, [[0.4, 0, 0.2, 0], [0, 0, 0.9, 0]])
    assert class_overlaps(np.zeros((3, 0), np.float32), np.zeros(0, np.int64), 2).tolist() == [[0, 0]] * 3


def test_boxes_with_equal_cells_count_once() -> None:
    regions = np.array([[0, 5, 5, 9, 9], [0, 1, 1, 2, 2], [0, 5, 5, 9, 9], [1, 5, 5, 9, 9], [0, 1, 1, 2, 2]])
    assert unique_rows(regions).tolist() == [0, 1, 3]


def test_mining_finds_the_solution_of_all_samples(images: FakeImages, start: Callable[..., None]) -> None:
    start(images=3, samples=10, growth=0.2)
    config = SVMConfig(C=1e-2, max_negatives_per_image=60)
    mined = mine(images, config, fresh())
    features = images.features.reshape(-1, N_FEATURES)
    targets = images.targets.reshape(-1, N_CLASSES)
    full = solve_dual(config, features, targets)
    reached, best = (objectives(config, svms, svms.decision_function(features), targets) for svms in (mined, full))
    assert (reached / best < 1.05).all()


def test_a_pass_resumes_from_any_fit(images: FakeImages, start: Callable[..., None]) -> None:
    start(images=3, samples=10, growth=0.5)
    config = SVMConfig(C=1e-2, max_negatives_per_image=20)
    states: list[tuple[int, NDArray[np.int64], NDArray[np.float32], LinearSVMs]] = []

    def keep(state: MiningState) -> None:
        assert state.svms is not None
        states.append((state.next_image, state.buffer.keys.copy(), state.buffer.duals.copy(), state.svms))

    full = mine(images, config, fresh(), report=keep)
    assert len(states) > 3
    for next_image, keys, duals, svms in states:
        buffer = SampleBuffer(1000, N_FEATURES, N_CLASSES)
        for image, row in keys:
            rows = np.array([row])
            buffer.add(images[image].features(rows), images[image].targets[rows], image, rows)
        buffer.duals[:] = duals
        again = mine(images, config, MiningState(buffer, next_image, svms=svms))
        np.testing.assert_array_equal(again.weights, full.weights)


def test_memory_is_bounded_and_no_sample_stored_twice(images: FakeImages, start: Callable[..., None]) -> None:
    start(images=2, samples=5, growth=0.1)
    sizes = []

    def check(state: MiningState) -> None:
        sizes.append(state.buffer.size)
        assert len(np.unique(state.buffer.keys, axis=0)) == state.buffer.size
        assert (state.buffer.targets > 0).any(1).sum() == len(images)

    mine(images, SVMConfig(C=1e-2, max_negatives_per_image=30), fresh(capacity=120), report=check)
    assert max(sizes) <= 120


@pytest.mark.parametrize("target", [-1, 0])
def test_a_class_without_objects_is_an_error(images: FakeImages, target: int) -> None:
    """Be its boxes all negatives, or between."""
    targets = np.concatenate([images.targets, np.full((30, 60, 1), target, np.int8)], axis=2)
    with pytest.raises(ValueError, match="no box of class 2 to train on"):
        mine(FakeImages(images.features, targets), SVMConfig(C=1e-2), fresh(n_classes=3))


def test_the_buffer_keeps_rows_and_refuses_more_than_it_holds() -> None:
    buffer = SampleBuffer(5, 2, 1)
    features = np.arange(10, dtype=np.float32).reshape(5, 2)
    buffer.add(features[:4], np.array([[1], [-1], [-1], [0]], np.int8), 7, np.array([3, 4, 8, 9]))
    buffer.keep(np.array([0, 2, 3]))
    assert buffer.features.tolist() == [[0, 1], [4, 5], [6, 7]]
    assert buffer.targets.ravel().tolist() == [1, -1, 0]
    assert buffer.keys.tolist() == [[7, 3], [7, 8], [7, 9]]
    assert buffer.free == 2
    with pytest.raises(ValueError, match="holds 5 samples; 3 more do not fit"):
        buffer.add(features[:3], np.zeros((3, 1), np.int8), 8, np.arange(3))
