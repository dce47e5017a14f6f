"""Samples and constants of an epoch of a classifier; crops up to the last pixel."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from detector.classification.network import Head
from detector.classification.samples import batch_seed, epoch_order, epoch_size, training_image
from detector.classification.training import _optimizer, training_schedule
from detector.classification.views import crop_box
from detector.config.classifier import ImageConfig, NetworkConfig, TrainingConfig

PLACES = np.stack([*np.mgrid[:9, :12], np.zeros((9, 12), int)], axis=-1).astype(np.uint8)
"""Each pixel is its row and column."""


def test_crops_start_at_every_place_and_end_at_the_last_pixel() -> None:
    corners, mirrored = set(), 0
    for index in range(600):
        found = training_image(PLACES, 7, 7, 0, 0, index)
        assert found.shape == (7, 7, 3)
        rows, columns = found[:, 0, 0].tolist(), found[0, :, 1].tolist()
        assert rows == list(range(rows[0], rows[0] + 7))
        turned = columns[0] > columns[-1]
        mirrored += turned
        columns = columns[::-1] if turned else columns
        assert columns == list(range(columns[0], columns[0] + 7))
        corners.add((rows[0], columns[0]))
    assert corners == {(top, left) for top in range(3) for left in range(6)}
    assert 240 < mirrored < 360
    whole = training_image(PLACES[:, :9], 9, 9, 0, 0, 1)
    assert sorted(whole[0, :, 1].tolist()) == list(range(9))


def test_an_epoch_is_mixed_and_another_one_otherwise() -> None:
    orders = [epoch_order(50, 3, epoch).tolist() for epoch in range(4)]
    assert len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == list(range(50)) != order for order in orders)
    assert epoch_order(50, 3, 0).tolist() == orders[0] != epoch_order(50, 4, 0).tolist()
    seeds = {batch_seed(seed, epoch, batch) for seed in range(3) for epoch in range(3) for batch in range(3)}
    assert len(seeds) == 27


def test_drawn_sizes_reach_from_the_least_to_the_greatest() -> None:
    config = ImageConfig(sizes=(48, 51), size_rule="random", crop=48)
    sizes = [epoch_size(config, 0, epoch) for epoch in range(80)]
    assert set(sizes) == {48, 49, 50, 51}
    assert sizes != [epoch_size(config, 1, epoch) for epoch in range(80)]
    turns = ImageConfig(sizes=(48, 60, 52), crop=48)
    assert [epoch_size(turns, 0, epoch) for epoch in range(4)] == [48, 60, 52, 48]


def test_constants_of_the_recipe_reach_the_descent() -> None:
    config = TrainingConfig(momentum=0.7, weight_decay=0.25, epochs=9, lr=0.5, lr_drop_epochs=(4, 6), seed=11)
    (group,) = _optimizer(config, nn.Linear(2, 2)).param_groups  # type: ignore[arg-type]
    assert (group["momentum"], group["weight_decay"], group["factor"]) == (0.7, 0.25, 1.0)
    schedule = training_schedule(config)
    assert (schedule.n_rounds, schedule.lr, tuple(schedule.drops), schedule.seed) == (9, 0.5, (4, 6), 11)
    assert [schedule.rate(number) for number in (3, 4, 6)] == pytest.approx([0.5, 0.05, 0.005])


def test_layers_of_the_recipe_are_built() -> None:
    config = NetworkConfig(hidden=(5, 4), dropout=0.3, feature_norm=2.0, pyramid=(2, 1))
    head = Head(config, (3, 6, 7), 8)
    kinds = [type(layer).__name__ for layer in head.layers]
    assert kinds == ["UnitNorm", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    sizes = [(each.in_features, each.out_features) for each in head.layers if isinstance(each, nn.Linear)]
    assert sizes == [(15, 5), (5, 4), (4, 8)]
    assert [each.p for each in head.layers if isinstance(each, nn.Dropout)] == [0.3, 0.3]
    (flat,) = Head(NetworkConfig(pyramid=None), (3, 6, 7), 8).layers
    assert isinstance(flat, nn.Linear)
    assert (flat.in_features, flat.out_features) == (3 * 6 * 7, 8)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((2.5, 1.5, 4.0, 3.0), (1, 3, 2, 4)),
        ((-3.0, -3.0, 2.1, 2.1), (0, 3, 0, 3)),
        ((11.5, 8.5, 30.0, 30.0), (8, 9, 11, 12)),
        ((40.0, 40.0, 50.0, 50.0), (8, 9, 11, 12)),
        ((5.0, 5.0, 5.0, 5.0), (5, 6, 5, 6)),
    ],
)
def test_a_crop_holds_all_pixels_that_its_box_touches(
    box: tuple[float, ...], expected: tuple[int, int, int, int]
) -> None:
    top, bottom, left, right = expected
    found = crop_box(PLACES, np.array(box, np.float32))
    assert found.tolist() == PLACES[top:bottom, left:right].tolist()
