"""Mining by workers: the model, and every state on the way to it, is that of one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from detector.features.cache_filling import Where
from detector.heads.linear_svm import LinearSVMs
from detector.runtime.map_images import InTurn, Threads
from detector.training.mining import MiningState, mine
from detector.training.mining_crew import Crew
from detector.training.sample_bank import Bank
from detector.training.scouting import MiningSettings, Scout
from detector.training.svm_dual_solver import solve_dual
from detector.training.svm_problem import SVMProblem
from detector.training.training_set import TrainingSet

# few images are drawn from, and every few samples there is a fit: many rounds, and what was scored ahead is in vain
SETTINGS = MiningSettings(start_images=5, start_samples=20, max_per_image=12, growth=0.1)


def mined(images: TrainingSet, settings: MiningSettings, capacity: int, scout: Scout | None) -> list[bytes]:
    """The bank and the SVMs after every fit, and the SVMs in the end, as bytes."""
    states: list[bytes] = []

    def see(state: MiningState) -> None:
        assert state.svms is not None
        states.append(bytes(state.bank.keys) + bytes(state.bank.features) + bytes(state.svms.weights))

    state = MiningState(Bank(capacity, images.n_features, images.n_classes))
    problem = SVMProblem(C=1e-2)
    svms: LinearSVMs = mine(images, problem, solve_dual, settings, state, report=see, scout=scout)
    return [*states, bytes(svms.weights), bytes(svms.biases)]


@pytest.mark.parametrize("capacity", [5000, 260])
@pytest.mark.parametrize("engine", [InTurn(), Threads(3)], ids=str)
def test_a_crew_mines_what_one_process_does(images: TrainingSet, engine: InTurn | Threads, capacity: int) -> None:
    crew = Crew(images, SETTINGS, Where(engine, lambda: images.cache))
    expected = mined(images, SETTINGS, capacity, None)
    assert len(expected) > 6
    assert mined(images, SETTINGS, capacity, crew) == expected
    crew.close()


def test_no_more_come_than_there_is_room_for(images: TrainingSet) -> None:
    from detector.training.scouting import hardest_negatives

    samples = images[0]
    svms = LinearSVMs(np.zeros((images.n_features, images.n_classes), np.float32), np.zeros(3, np.float32))
    svms.weights[:] = np.random.default_rng(0).standard_normal(svms.weights.shape)
    settings = replace(SETTINGS, add_above=-np.inf)
    none = np.zeros(0, np.int64)
    few = hardest_negatives(samples, svms, none, settings).hardest(4, samples)
    expected = hardest_negatives(samples, svms, none, replace(settings, max_per_image=4))
    for one, other in zip(vars(few).values(), vars(expected).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    known = hardest_negatives(samples, svms, expected.rows, settings).rows
    assert not set(known) & set(expected.rows)


def test_an_image_that_fails_ends_the_mining(images: TrainingSet) -> None:
    def broken() -> Callable[..., object]:
        raise ValueError("no cache")

    crew = Crew(images, SETTINGS, Where(InTurn(), broken))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no cache"):
        crew(0, None, Bank(10, images.n_features, images.n_classes))
    crew.close()
