"""Parallel mining: the model, and every state on the way, equals that of one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detector.config.detector import SVMConfig
from detector.features.cache import CacheWorkers
from detector.heads.linear import LinearSVMs
from detector.parallel.map_images import Sequential, Threads
from detector.training.svm import mining
from detector.training.svm.dual_solver import solve_dual
from detector.training.svm.mining import MiningState, Sampler, hardest_negatives, mine
from detector.training.svm.parallel_miner import ParallelMiner
from detector.training.svm.sample_buffer import SampleBuffer
from detector.training.training_set import TrainingSet
from tests.training.small import small_set

CONFIG = SVMConfig(C=1e-2, max_negatives_per_image=12)


@pytest.fixture(autouse=True)
def many_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with few samples and fit again after a few more, so that images scored ahead are scored again."""
    monkeypatch.setattr(mining, "START_IMAGES", 5)
    monkeypatch.setattr(mining, "START_SAMPLES", 20)
    monkeypatch.setattr(mining, "GROWTH", 0.1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    """24 images of three squares, one of each class, and of 80 boxes anywhere."""
    random = np.random.default_rng(0)
    objects, boxes = {}, {}
    for name in map(str, range(24)):
        corners = random.integers(0, 100, (83, 2))
        placed = np.hstack([corners, corners + random.integers(20, 60, (83, 2))])
        objects[name] = [(box, label) for label, box in enumerate(placed[:3].tolist())]
        boxes[name] = placed[3:]
    return small_set(tmp_path_factory.mktemp("miner"), objects, boxes, levels=(2, 1), scale=np.float32(0.05))


def mined(images: TrainingSet, config: SVMConfig, capacity: int, sampler: Sampler | None) -> list[bytes]:
    """Return the buffer and the SVMs after every fit, and the SVMs in the end, as bytes."""
    states: list[bytes] = []

    def see(state: MiningState) -> None:
        assert state.svms is not None
        states.append(bytes(state.buffer.keys) + bytes(state.buffer.features) + bytes(state.svms.weights))

    state = MiningState(SampleBuffer(capacity, images.n_features, images.n_classes))
    svms: LinearSVMs = mine(images, config, solve_dual, state, report=see, sampler=sampler)
    return [*states, bytes(svms.weights), bytes(svms.biases)]


# with room for all that is found; with less than what one image gives
@pytest.mark.parametrize(("capacity", "most"), [(5000, 12), (180, 50)])
@pytest.mark.parametrize("engine", [Sequential(), Threads(3)], ids=str)
def test_workers_mine_the_same_samples_as_one_process(
    images: TrainingSet, engine: Sequential | Threads, capacity: int, most: int
) -> None:
    config = CONFIG.model_copy(update={"max_negatives_per_image": most})
    miner = ParallelMiner(images, config, CacheWorkers(engine, lambda: images.cache))
    expected = mined(images, config, capacity, None)
    assert len(expected) > 6
    assert mined(images, config, capacity, miner) == expected
    miner.close()


def test_no_more_come_than_there_is_room_for(images: TrainingSet) -> None:
    samples = images[0]
    svms = LinearSVMs(np.zeros((images.n_features, images.n_classes), np.float32), np.zeros(3, np.float32))
    svms.weights[:] = np.random.default_rng(0).standard_normal(svms.weights.shape)
    config = CONFIG.model_copy(update={"add_above": -1e9})
    none = np.zeros(0, np.int64)
    few = hardest_negatives(samples, svms, none, config).hardest(4, samples)
    expected = hardest_negatives(samples, svms, none, config.model_copy(update={"max_negatives_per_image": 4}))
    for one, other in zip(vars(few).values(), vars(expected).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    known = hardest_negatives(samples, svms, expected.rows, config).rows
    assert not set(known) & set(expected.rows)


def test_an_image_that_cannot_be_read_ends_the_mining(tmp_path: Path) -> None:
    images = small_set(tmp_path, {"gone": [((0, 0, 64, 64), 0)]}, {"gone": []})
    (tmp_path / "gone.png").unlink()
    miner = ParallelMiner(images, CONFIG, CacheWorkers(Sequential(), lambda: images.cache))
    with pytest.raises(ValueError, match=r"gone\.png"):
        miner(0, None, SampleBuffer(10, images.n_features, images.n_classes))
    miner.close()


def test_a_cache_that_cannot_be_built_ends_the_mining(images: TrainingSet) -> None:
    def broken() -> Callable[..., object]:
        raise ValueError("no cache")

    miner = ParallelMiner(images, CONFIG, CacheWorkers(Sequential(), broken))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no cache"):
        miner(0, None, SampleBuffer(10, images.n_features, images.n_classes))
    miner.close()
