"""Samples that mining adds, drops and keeps, by hand: the score is the feature, whatever the SVM is fitted to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from detector.config.detector import SVMConfig
from detector.heads.linear import LinearSVMs
from detector.training.svm import mining
from detector.training.svm.mining import TOLERANCE, MiningState
from detector.training.svm.sample_buffer import SampleBuffer
from tests.training.svm.fake_samples import FakeSamples


@dataclass(frozen=True)
class Settings:
    """Keys of the recipe and constants of mining, in one place."""

    max_per_image: int = 100
    add_above: float = -1.0001
    evict_below: float = -1.2
    seed: int = 3
    start_images: int = 50
    start_samples: int = 100
    growth: float = 0.5

    @property
    def config(self) -> SVMConfig:
        return SVMConfig(
            max_negatives_per_image=self.max_per_image,
            add_above=self.add_above,
            evict_below=self.evict_below,
            seed=self.seed,
        )


KEEP_ALL = Settings(start_images=0, evict_below=-1e9, growth=1e9)


class Images(list[FakeSamples]):
    """Images of ``(score, target)`` each; targets may be those of two classes, which score alike."""

    def __init__(self, *images: list[tuple[float, Any]]) -> None:
        super().__init__(
            FakeSamples(
                np.array([np.atleast_1d(target) for _, target in image], np.int8),
                np.array([[score] for score, _ in image], np.float32),
            )
            for image in images
        )


@dataclass
class Pass:
    """A pass over images: what the buffer held right after each fit, and at which image."""

    images: Images
    settings: Settings
    capacity: int = 1000  # so large that nothing is given up for room
    n_fits: int = 0
    after: list[tuple[int, list[list[int]]]] = field(default_factory=list)
    fitted: list[list[list[int]]] = field(default_factory=list)

    def run(self) -> Pass:
        n_classes = self.images[0].targets.shape[1]
        self.state = MiningState(SampleBuffer(self.capacity, 1, n_classes))

        def solve(config: Any, features: Any, targets: Any, duals: Any, tolerance: float) -> LinearSVMs:
            self.n_fits += 1
            self.fitted.append(self.state.buffer.keys.tolist())
            assert tolerance == TOLERANCE
            assert len(features) == len(targets) == len(duals)
            return LinearSVMs(np.ones((1, n_classes), np.float32), np.zeros(n_classes, np.float32))

        def report(state: MiningState) -> None:
            self.after.append((state.next_image, state.buffer.keys.tolist()))

        images: Any = self.images
        with pytest.MonkeyPatch.context() as patched:
            for name in ("start_images", "start_samples", "growth"):
                patched.setattr(mining, name.upper(), getattr(self.settings, name))
            self.svms = mining.mine(images, self.settings.config, solve, self.state, report=report)
        return self


def test_mining_starts_with_all_objects_and_a_few_negatives_of_the_first_images() -> None:
    image = [(0.0, 1), (0.0, -1), (0.0, 0), (0.0, -1), (0.0, -1)]
    settings = Settings(start_images=2, start_samples=2, evict_below=-1e9, add_above=1e9, seed=5)
    drawn = set()
    for seed in range(30):
        found = Pass(Images(image, image, image), Settings(**{**vars(settings), "seed": seed})).run().fitted[0]
        assert len({tuple(key) for key in found}) == len(found) == 2 + 2 + 3
        assert {(0, 0), (1, 0), (2, 0)} <= {tuple(key) for key in found}
        drawn |= {tuple(key) for key in found if key[1]}
    # neither what is ignored nor, of the third image, any
    assert drawn == {(0, 1), (0, 3), (0, 4), (1, 1), (1, 3), (1, 4)}


def test_an_object_of_one_class_is_added_once_although_it_is_a_negative_of_another() -> None:
    image = [(0.0, (1, -1)), (0.0, (-1, 1)), (0.0, (-1, -1)), (0.0, (0, -1)), (0.0, (0, 0))]
    settings = Settings(start_images=1, start_samples=9, evict_below=-1e9, add_above=1e9)
    assert sorted(Pass(Images(image), settings).run().fitted[0]) == [[0, 0], [0, 1], [0, 2], [0, 3]]


def test_only_negatives_above_the_threshold_are_added() -> None:
    first = [(5.0, 1), (-1.0, -1), (-1.0001, -1), (-2.0, -1), (3.0, 0)]
    found = Pass(Images(first), KEEP_ALL).run()
    # float32 rounds -1.0001 to below itself; what is ignored is not mined however hard, and no object twice
    assert found.fitted[-1] == [[0, 0], [0, 1]]
    loose = Settings(**{**vars(KEEP_ALL), "add_above": -2.0})
    assert Pass(Images(first), loose).run().fitted[-1] == [[0, 0], [0, 1], [0, 2]]
    looser = Settings(**{**vars(KEEP_ALL), "add_above": -2.5})
    assert Pass(Images(first), looser).run().fitted[-1] == [[0, 0], [0, 1], [0, 2], [0, 3]]


def test_a_box_is_hard_for_the_classes_that_it_is_a_negative_of_alone() -> None:
    image = [(0.0, (1, -1)), (0.0, (-1, 1)), (4.0, (0, 0)), (4.0, (0, -1)), (-3.0, (-1, -1))]
    # objects of one class are mined as negatives of the other only once: they are in the buffer from the beginning
    assert Pass(Images(image), KEEP_ALL).run().fitted[-1] == [[0, 0], [0, 1], [0, 3]]


def test_the_hardest_of_an_image_are_added_in_the_order_of_their_rows() -> None:
    image = [(0.0, 1), (1.0, -1), (4.0, -1), (2.0, -1), (3.0, -1), (4.0, -1)]
    settings = Settings(**{**vars(KEEP_ALL), "max_per_image": 3})
    assert Pass(Images(image), settings).run().fitted[-1] == [[0, 0], [0, 2], [0, 4], [0, 5]]
    one = Settings(**{**vars(KEEP_ALL), "max_per_image": 1})
    # of equally hard ones the first
    assert Pass(Images(image), one).run().fitted[-1] == [[0, 0], [0, 2]]


def test_start_samples_are_not_added_again() -> None:
    image = [(0.0, 1), (2.0, -1), (1.0, -1)]
    settings = Settings(**{**vars(KEEP_ALL), "start_images": 1, "start_samples": 1})
    assert sorted(Pass(Images(image), settings).run().fitted[-1]) == [[0, 0], [0, 1], [0, 2]]


def test_easy_negatives_are_given_up_and_objects_never() -> None:
    image = [(-9.0, 1), (-1.2, -1), (-1.25, -1), (-0.5, -1)]
    settings = Settings(start_images=1, start_samples=9, evict_below=-1.21, add_above=1e9)
    assert Pass(Images(image), settings).run().after[0] == (0, [[0, 0], [0, 1], [0, 3]])
    exact = Settings(start_images=1, start_samples=9, evict_below=-0.5, add_above=1e9)
    assert Pass(Images(image), exact).run().after[0] == (0, [[0, 0], [0, 3]])


def test_a_negative_stays_while_it_is_hard_for_one_class() -> None:
    image = [(0.0, (1, 1)), (-3.0, (-1, 0)), (2.0, (-1, -1)), (-3.0, (0, 1))]
    settings = Settings(start_images=1, start_samples=9, evict_below=-1.2, add_above=1e9)
    assert sorted(Pass(Images(image), settings).run().after[0][1]) == [[0, 0], [0, 2], [0, 3]]


def test_a_full_buffer_gives_up_its_easiest_negatives() -> None:
    """Three quarters of eight samples stay: both objects, although they score least, and the four hardest others."""
    image = [(-9.0, 1), (1.0, -1), (4.0, -1), (2.0, -1), (3.0, -1), (5.0, -1), (-9.0, 1), (6.0, -1)]
    settings = Settings(start_images=1, start_samples=9, add_above=1e9)
    found = Pass(Images(image), settings, capacity=8).run()
    assert len(found.fitted[0]) == 8
    assert sorted(found.after[0][1]) == [[0, 0], [0, 2], [0, 4], [0, 5], [0, 6], [0, 7]]


def test_objects_stay_even_where_they_are_more_than_a_buffer_should_hold() -> None:
    image = [(-9.0, 1)] * 7 + [(5.0, -1)]
    settings = Settings(start_images=1, start_samples=9, add_above=1e9)
    found = Pass(Images(image), settings, capacity=8).run()
    assert sorted(found.after[0][1]) == [[0, row] for row in range(7)]


def test_no_more_are_added_than_the_buffer_has_room_for() -> None:
    begin = [(0.0, 1), (0.0, 1), (0.0, 1)]
    more = [(1.0, -1), (3.0, -1), (2.0, -1)]
    settings = Settings(**{**vars(KEEP_ALL), "max_per_image": 1})
    found = Pass(Images(begin, more, more, more), settings, capacity=5).run()
    # room for two: the hardest of the second image, that of the third, and then there is less than for an image
    assert [next_image for next_image, _ in found.after] == [0, 3]
    assert found.fitted[1] == [[0, 0], [0, 1], [0, 2], [1, 1], [2, 1]]
    # three quarters of five are three: the objects alone
    assert found.after[1][1] == [[0, 0], [0, 1], [0, 2]]
    assert found.fitted[2] == [[0, 0], [0, 1], [0, 2], [3, 1]]


@pytest.mark.parametrize(("growth", "fits"), [(0.5, [0, 1, 3]), (0.51, [0, 2]), (0.26, [0, 1, 2, 4]), (1e9, [0])])
def test_svms_are_fitted_again_when_the_buffer_has_grown(growth: float, fits: list[int]) -> None:
    """Two samples begin, and one comes with each image: half as many more after one image, then after two."""
    begin = [(0.0, 1), (0.0, 1), (1.0, -1)]
    more = [(1.0, -1)]
    settings = Settings(**{**vars(KEEP_ALL), "growth": growth, "max_per_image": 1})
    found = Pass(Images(begin, more, more, more), settings).run()
    assert [next_image for next_image, _ in found.after] == fits
    # and once at the end
    assert found.n_fits == len(fits) + 1


def test_a_pass_without_anything_hard_fits_no_more() -> None:
    easy = [(-5.0, -1)]
    found = Pass(Images([(0.0, 1)], easy, easy), Settings(start_images=0, growth=0.0)).run()
    assert [next_image for next_image, _ in found.after] == [0]
    assert found.n_fits == 2
    assert found.state.next_image == 3
