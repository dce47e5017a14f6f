"""Convolutions that learn: which boxes of which images, at one scale each, and which images only choose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detector.config.detector import FineTuningConfig, parse_config
from detector.training.end_to_end import network_tuning
from detector.training.end_to_end.fc_layers import VALIDATION_BOXES, FineTuningSettings
from detector.training.end_to_end.network_tuning import _RegionBatches, _ScoredRegions, tune_network
from detector.training.sampling import RandomBoxes, validation_split
from tests.training.small import SETTINGS, small_set

RED, APART = [0, 0, 64, 64], [[96, 96, 160, 160], [0, 0, 64, 48]]


def batches(folder: Path, n_images: int = 10, **changes: Any) -> _RegionBatches:
    names = [f"{number:02d}" for number in range(n_images)]
    images = small_set(
        folder, {name: [(RED, 0)] for name in names}, {name: APART for name in names}, short_sides=(80, 160)
    )
    config = FineTuningConfig(held_out=0.2, background_iou=(0.0, 0.5), foreground_fraction=0.5)
    learners, validation = (replace(each, one_scale=True) for each in validation_split(images, config))
    settings = FineTuningSettings(**{**SETTINGS, "images_per_round": 5, "boxes_per_image": 4, **changes})
    return _RegionBatches(learners, validation, settings)


def test_a_batch_is_of_whole_images(tmp_path: Path) -> None:
    made = batches(tmp_path, batch_size=8)
    assert (made.per_batch, made.per_round) == (2, 3)
    drawn = list(made.round(0))
    assert [len(batch.inputs) for batch in drawn] == [2, 2, 1]
    for batch in drawn:
        assert batch.n_samples == len(batch.targets) == sum(len(cells) for _, cells in batch.inputs)
        for maps, cells in batch.inputs:
            assert maps.shape[:2] == (1, 3) and maps.dtype == torch.float16
            assert cells.shape[1] == 4
            assert (cells[:, 2] <= maps.shape[3]).all() and (cells[:, 3] <= maps.shape[2]).all()
    rest = list(made.round(0, 1))
    assert [batch.n_samples for batch in rest] == [batch.n_samples for batch in drawn[1:]]
    assert torch.equal(rest[0].inputs[0][0], drawn[1].inputs[0][0])
    assert np.array_equal(rest[0].inputs[0][1], drawn[1].inputs[0][1])


def test_labels_are_those_of_the_cells(tmp_path: Path) -> None:
    made = batches(tmp_path)
    sizes = set()
    for number in range(4):
        for batch in made.round(number):
            labels = iter(batch.targets.tolist())
            for maps, cells in batch.inputs:
                sizes.add(maps.shape[2])
                for x1, y1, x2, y2 in cells.tolist():
                    bright = maps[0, 0, y1:y2, x1:x2].max().item()
                    assert next(labels) == (0 if bright == 200 else 3)
    assert sizes == {5, 10}, "both scales"


def test_batches_are_smaller_than_an_image_gives_at_least_one_image(tmp_path: Path) -> None:
    made = batches(tmp_path, batch_size=3)
    assert (made.per_batch, made.per_round) == (1, 5)
    (tmp_path / "few").mkdir()
    # of three images two are learned from
    assert batches(tmp_path / "few", n_images=3, batch_size=8).per_round == 1


def test_validation_is_of_other_images_and_always_the_same(tmp_path: Path) -> None:
    made = batches(tmp_path)
    first, second = made.validation(), made.validation()
    assert len(first) == len(made.validation_images) == 2 < len(made.images)
    assert all(len(batch.inputs) == 1 and batch.n_samples <= VALIDATION_BOXES for batch in first)
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one.targets, two.targets)
        assert np.array_equal(one.inputs[0][1], two.inputs[0][1])


def test_images_without_boxes_are_no_batch(tmp_path: Path) -> None:
    images = small_set(tmp_path, {"a": [(RED, 0)], "b": [(RED, 0)]}, {"a": [], "b": []})
    nothing = RandomBoxes(images, np.array([0]), foreground_fraction=0.0, background_iou=(0.1, 0.5), one_scale=True)
    settings = FineTuningSettings(**SETTINGS)
    made = _RegionBatches(nothing, nothing, settings)
    assert list(made.round(0)) == []
    assert made.validation() == []


def test_many_learn_and_few_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class Stop(Exception):  # noqa: N818 (a signal)
        pass

    def watched(*arguments: Any) -> None:
        seen.extend(arguments)
        raise Stop

    monkeypatch.setattr(network_tuning, "GradientDescent", watched)
    names = [str(number) for number in range(10)]
    images = small_set(tmp_path, {name: [(RED, 0)] for name in names}, {name: APART for name in names})
    recipe = {
        "features": {"backbone": "zf5/0.05", "weights": "random", "short_sides": [160], "levels": [1]},
        "fine_tuning": {"held_out": 0.2, "background_iou": [0.0, 0.5], "weight_decay": 0.25, "momentum": 0.7},
    }
    with pytest.raises(Stop):
        tune_network(
            parse_config(recipe, "test"),
            images.annotations,
            3,
            "conv5",
            tmp_path / "cache",
            precomputed=images.cache.precomputed,
        )
    _, optimizer, drawn, _, _, _, validation, *_ = seen
    assert (len(drawn.images), len(drawn.validation_images)) == (8, 2)
    assert drawn.images.one_scale and drawn.validation_images.one_scale
    assert len(validation.batches()) == 2
    assert not set(drawn.images.indices.tolist()) & set(drawn.validation_images.indices.tolist())
    # new layers decay by the recipe, convolutions by their own constant, at a tenth of the rate; biases twice as fast
    groups = [(group["factor"], group["weight_decay"]) for group in optimizer.param_groups]
    assert groups == [(1.0, 0.25), (2.0, 0.0), (0.1, 5e-4), (0.2, 0.0)]
    assert {group["momentum"] for group in optimizer.param_groups} == {0.7}


def test_features_are_centered_as_first_measured_and_normalizations_stay() -> None:
    last = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    layers = nn.Sequential(nn.Linear(10, 3), nn.Dropout(0.5))
    regions = _ScoredRegions(last, layers, (2, 1))
    assert [name for name, each in regions.named_parameters() if not each.requires_grad] == [
        "last.1.weight",
        "last.1.bias",
    ]
    regions.train()
    assert not last.training and layers.training
    random = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 2, 5, 6, generator=random).half() for _ in range(6)]
    cells = np.array([[0, 0, 6, 5], [1, 1, 3, 4], [2, 0, 3, 2]])
    regions.measure([[(each, cells)] for each in maps])
    pooled = torch.cat([regions._pool([(each, cells)]) for each in maps])
    centered = (pooled - regions.get_buffer("mean")) * regions.get_buffer("scale")
    torch.testing.assert_close(centered.mean(0), torch.zeros(10), atol=1e-5, rtol=0)
    assert centered.norm(dim=1).mean().item() == pytest.approx(10**0.5, rel=1e-4)
    regions.eval()
    two = regions([(maps[0], cells), (maps[1], cells[:1])])
    torch.testing.assert_close(two, layers(centered[[0, 1, 2, 3]]))
    assert "mean" not in regions.state_dict()
