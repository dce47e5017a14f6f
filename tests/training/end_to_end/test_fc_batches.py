"""Fine-tuning by hand: shuffled batches, learning rates, dropout, validation boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from detector.config.detector import FineTuningConfig
from detector.training.end_to_end import fc_layers
from detector.training.end_to_end.fc_layers import (
    VALIDATION_BOXES,
    LayerTraining,
    build_layers,
    fine_tuning_schedule,
    sample_round,
)
from detector.training.gradient_descent import Checkpoint, softmax_loss
from tests.training.small import SETTINGS


def test_the_loss_is_the_mean_cross_entropy() -> None:
    scores = torch.tensor([[0.0, np.log(3.0)], [0.0, 0.0]], dtype=torch.float16)
    # -log(3 / 4), -log(1 / 2)
    assert float(softmax_loss(scores, torch.tensor([1, 0]))) == pytest.approx((np.log(4 / 3) + np.log(2)) / 2, rel=1e-3)


class Numbered:
    """Images of boxes whose features are ``image, box`` and whose label is the image's number of three."""

    n_features, n_classes = 2, 3

    def __init__(self, count: int, boxes: int = 4) -> None:
        self.count, self.boxes = count, boxes

    def __len__(self) -> int:
        return self.count

    def sample(
        self, index: int, n_boxes: int, random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        n = min(n_boxes, self.boxes)
        rows = np.stack([np.full(n, index), np.arange(n)], axis=1).astype(np.float32)
        return rows, np.full(n, index % 3)


@pytest.fixture(autouse=True)
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fc_layers, "IMAGES_PER_ROUND", 5)
    monkeypatch.setattr(fc_layers, "BOXES_PER_IMAGE", 4)


def tuning(tmp_path: Path, images: int = 9, held_out: int = 2, **changes: Any) -> LayerTraining:
    config = FineTuningConfig(**{**SETTINGS, **changes})
    training: Any = Numbered(images)
    validation: Any = Numbered(held_out, 100)
    return LayerTraining(training, validation, config, tmp_path / "state")


def test_boxes_of_all_images_of_a_round_are_mixed_and_keep_their_labels(tmp_path: Path) -> None:
    batches = tuning(tmp_path).descent.batches
    torch.manual_seed(0)
    drawn = list(batches.round(0))
    assert [batch.n_samples for batch in drawn] == [8, 8, 4]
    rows = torch.cat([batch.inputs for batch in drawn])
    labels = torch.cat([batch.targets for batch in drawn])
    assert torch.equal(labels, rows[:, 0].long() % 3)
    # each box once, of five images, and not one image after the other
    assert len({tuple(row) for row in rows.tolist()}) == 20
    assert len(set(rows[:, 0].tolist())) == 5
    assert all(len(set(batch.inputs[:, 0].tolist())) > 2 for batch in drawn)
    other = {tuple(row) for batch in batches.round(1) for row in batch.inputs.tolist()}
    assert other != {tuple(row) for row in rows.tolist()}
    torch.manual_seed(0)
    rest = list(batches.round(0, 2))
    assert len(rest) == 1
    assert torch.equal(rest[0].inputs, drawn[2].inputs)


@pytest.mark.parametrize(("images", "batch", "per_round"), [(9, 8, 2), (2, 8, 1), (2, 3, 2), (1, 8, 1)])
def test_a_round_counts_as_its_whole_batches(tmp_path: Path, images: int, batch: int, per_round: int) -> None:
    made = tuning(tmp_path, images, batch_size=batch)
    assert made.title == f"fine-tuning, batches x {per_round}"
    assert made.descent.schedule.n_rounds == round(10 / per_round)


def test_snapshots_are_compared_on_the_same_boxes_of_the_images_held_out(tmp_path: Path) -> None:
    validation = tuning(tmp_path, held_out=3).descent.validation
    assert validation is not None
    first, second = ([batch for batch in validation.batches()] for _ in range(2))
    assert sum(batch.n_samples for batch in first) == 3 * VALIDATION_BOXES
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(first, second, strict=True))
    assert sorted(set(torch.cat([batch.inputs for batch in first])[:, 0].tolist())) == [0, 1, 2]
    # of many images, every so many: 600 are one of three
    few = list(tuning(tmp_path, held_out=600).descent.validation.batches())  # type: ignore[union-attr]
    chosen = sorted(set(torch.cat([batch.inputs for batch in few])[:, 0].tolist()))
    assert chosen == [*range(0, 600, 3)]
    assert max(batch.n_samples for batch in few) <= 1024


def test_values_of_the_recipe_reach_the_optimizer(tmp_path: Path) -> None:
    made = tuning(tmp_path)
    groups = made.descent.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.25, 0.0]
    assert [group["momentum"] for group in groups] == [0.9, 0.9]
    assert made.descent.validation is not None
    assert made.descent.validation.rounds_per_snapshot == 15
    assert made.descent.checkpoint == Checkpoint(tmp_path / "state")


def test_layers_start_random_by_their_seed_with_the_dropout_of_the_recipe() -> None:
    config = FineTuningConfig(**{**SETTINGS, "width": 400})
    layers: Any = build_layers(900, 3, config)
    assert [type(each).__name__ for each in layers] == [
        "Linear",
        "ReLU",
        "Dropout",
        "Linear",
        "ReLU",
        "Dropout",
        "Linear",
    ]
    fc6, fc7, fc8 = (layers[number] for number in (0, 3, 6))
    assert [tuple(each.weight.shape) for each in (fc6, fc7, fc8)] == [(400, 900), (400, 400), (4, 400)]
    # for values that a ReLU halves: variance 2 over the number of inputs
    assert fc6.weight.std().item() == pytest.approx((2 / 900) ** 0.5, rel=0.02)
    assert fc7.weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert fc8.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not any(each.bias.any() for each in (fc6, fc7, fc8))
    assert [each.p for each in layers if isinstance(each, nn.Dropout)] == [0.3, 0.3]
    again: Any = build_layers(900, 3, config)
    assert torch.equal(again[0].weight, fc6.weight)
    other: Any = build_layers(900, 3, FineTuningConfig(**{**SETTINGS, "width": 400, "seed": 4}))
    assert not torch.equal(other[0].weight, fc6.weight)


def test_nothing_is_dropped_from_boxes_that_snapshots_are_compared_on(tmp_path: Path) -> None:
    """Dropout is for training alone: the same layers give the same scores of the same boxes."""
    made = tuning(tmp_path, dropout=0.9, iterations=1, lr=1e-12)
    made.run()
    network = made.descent.network.eval()
    assert made.descent.validation is not None
    batches = made.descent.validation.batches()
    with torch.inference_mode():
        losses = [batch.n_samples * float(softmax_loss(network(batch.inputs), batch.targets)) for batch in batches]
    assert made.descent.lowest == pytest.approx(sum(losses) / sum(batch.n_samples for batch in batches), rel=1e-5)


@pytest.mark.parametrize(("steps", "drops"), [((0.5,), [5]), ((0.25, 1.0), [3, 10]), ((), [])])
def test_rounds_and_drops_of_a_schedule(steps: tuple[float, ...], drops: list[int]) -> None:
    schedule = fine_tuning_schedule(FineTuningConfig(**{**SETTINGS, "lr_steps": steps}), 1)
    assert (schedule.n_rounds, list(schedule.drops), schedule.lr, schedule.seed) == (10, drops, 0.1, 3)
    assert fine_tuning_schedule(FineTuningConfig(**SETTINGS), 1000).n_rounds == 1


def test_images_of_a_round_follow_from_its_number() -> None:
    first, other = sample_round(9, 3, 0)[0], sample_round(9, 3, 1)[0]
    assert len(set(first.tolist())) == 5 == len(first)
    assert first.tolist() == sample_round(9, 3, 0)[0].tolist() != other.tolist()
    assert sorted(sample_round(3, 3, 0)[0].tolist()) == [0, 1, 2]
    assert sample_round(9, 4, 0)[0].tolist() != first.tolist()
