"""Gradient descent by hand: rates of weights and biases, decay, momentum, dropout, the mixing of boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from detector.training.checkpoints import Checkpoint
from detector.training.gradient_descent import (
    Batch,
    GradientDescent,
    Schedule,
    Validation,
    parameter_groups,
    sgd,
    softmax_loss,
)
from detector.training.layer_tuning import LayerTuning, build_layers
from detector.training.tuning_settings import VALIDATION_BOXES, FineTuningSettings
from tests.training.small import SETTINGS


class Batches:
    """So many batches a round, of one sample each."""

    def __init__(self, *samples: float) -> None:
        self.samples = samples
        self.asked: list[tuple[int, int]] = []

    def round(self, number: int, first: int = 0) -> Iterator[Batch]:
        self.asked.append((number, first))
        for sample in self.samples[first:]:
            yield Batch(torch.tensor([[sample]]), torch.zeros(1), 1)


def line(weight: float = 1.0, bias: float = 0.0) -> nn.Linear:
    layer = nn.Linear(1, 1)
    layer.load_state_dict({"weight": torch.tensor([[weight]]), "bias": torch.tensor([bias])})
    return layer


def mean_output(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return outputs.mean()


def descent(layer: nn.Linear, batches: Batches, decay: float, momentum: float, *drops: int, **more: Any) -> Any:
    optimiser = sgd(parameter_groups(layer, decay), momentum)
    n_rounds = more.pop("n_rounds", 1)
    schedule = Schedule(n_rounds, 0.1, drops, seed=0)
    return GradientDescent(layer, optimiser, batches, schedule, mean_output, more.pop("checkpoint", None), **more)


def test_biases_learn_twice_as_fast_and_do_not_decay() -> None:
    layer = line(weight=1.0, bias=5.0)
    descent(layer, Batches(3.0), 0.5, 0.0).run()
    # the gradients are 3 and 1: 1 - .1 * (3 + .5 * 1), 5 - .2 * 1
    assert layer.weight.item() == pytest.approx(0.65)
    assert layer.bias.item() == pytest.approx(4.8)


def test_momentum_carries_on_from_step_to_step() -> None:
    layer = line(weight=1.0)
    descent(layer, Batches(3.0, 1.0), 0.0, 0.5).run()
    # .1 * 3, then .1 * (1 + .5 * 3); .2 * 1, then .2 * (1 + .5)
    assert layer.weight.item() == pytest.approx(1 - 0.3 - 0.25)
    assert layer.bias.item() == pytest.approx(-0.2 - 0.3)


def test_the_rate_falls_to_a_tenth_at_its_rounds() -> None:
    layer = line(weight=1.0)
    descent(layer, Batches(1.0), 0.0, 0.0, 1, 2, n_rounds=3).run()
    assert layer.weight.item() == pytest.approx(1 - 0.1 - 0.01 - 0.001)
    assert layer.bias.item() == pytest.approx(-0.2 - 0.02 - 0.002)


def test_a_factor_is_of_both_rates() -> None:
    layer = line(weight=1.0)
    groups = parameter_groups(layer, 0.0, factor=0.1)
    assert [group["factor"] for group in groups] == pytest.approx([0.1, 0.2])
    assert [group["weight_decay"] for group in groups] == [0.0, 0.0]


def test_what_does_not_learn_is_in_no_group() -> None:
    network = nn.Sequential(line(), line())
    network[0].requires_grad_(False)
    weights, biases = parameter_groups(network, 0.25)
    assert [id(each) for each in weights["params"]] == [id(network[1].weight)]
    assert [id(each) for each in biases["params"]] == [id(network[1].bias)]
    assert (weights["weight_decay"], biases["weight_decay"]) == (0.25, 0.0)


def test_the_best_state_is_that_of_the_least_mean_loss_a_sample() -> None:
    """A batch of three samples weighs as three."""
    layer = line(weight=0.0, bias=0.0)
    held_out = [
        Batch(torch.tensor([[1.0]]), torch.zeros(1), 1),
        Batch(torch.tensor([[-1.0], [-1.0], [-1.0]]), torch.zeros(3), 3),
    ]
    validation = Validation(lambda: held_out, rounds_per_snapshot=2)
    trained = descent(layer, Batches(1.0), 0.0, 0.0, n_rounds=5, validation=validation)
    best = trained.run()
    # after n rounds: weight -.1 n, bias -.2 n; the loss is bias + weight * (1 - 3) / 4 = -.15 n: the last is best
    assert trained.lowest == pytest.approx(-0.75)
    assert best["weight"].item() == pytest.approx(-0.5)
    assert not layer.training


def test_snapshots_are_looked_at_every_so_many_rounds_and_at_the_end() -> None:
    """The loss is the square of the bias, which goes from 1 in steps of .4: .6, .2, -.2, -.6, -1."""
    layer = line(weight=0.0, bias=1.0)
    looked: list[float] = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if torch.is_inference_mode_enabled():
            looked.append(round(float(layer.bias), 3))
            return (outputs**2).mean()
        return 2 * outputs.mean()

    optimiser = sgd(parameter_groups(layer, 0.0), 0.0)
    held_out = [Batch(torch.zeros(1, 1), torch.zeros(1), 1)]
    schedule = Schedule(5, 0.1, (), seed=0)
    trained = GradientDescent(layer, optimiser, Batches(0.0), schedule, loss, None, Validation(lambda: held_out, 2))
    best = trained.run()
    assert looked == [0.2, -0.6, -1.0]
    assert best["bias"].item() == pytest.approx(0.2)
    assert trained.lowest == pytest.approx(0.04)


def test_a_state_is_kept_after_batches_when_it_is_time(tmp_path: Path) -> None:
    """With no second between them each batch is a state to go on from, at the batch that comes next."""

    class Dies(Batches):
        def round(self, number: int, first: int = 0) -> Iterator[Batch]:
            for index, batch in enumerate(super().round(number, first), first):
                if (number, index) == (1, 2) and not first:
                    raise KeyboardInterrupt
                yield batch

    whole = line()
    descent(whole, Batches(1.0, 2.0, 3.0), 0.1, 0.9, n_rounds=3).run()
    checkpoint = Checkpoint(tmp_path / "state", seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        descent(line(), Dies(1.0, 2.0, 3.0), 0.1, 0.9, n_rounds=3, checkpoint=checkpoint).run()
    again, batches = line(9.0, 9.0), Batches(1.0, 2.0, 3.0)
    descent(again, batches, 0.1, 0.9, n_rounds=3, checkpoint=checkpoint).run()
    assert batches.asked == [(1, 2), (2, 0)]
    assert (again.weight.item(), again.bias.item()) == (whole.weight.item(), whole.bias.item())
    # done: what it ended with is read, and nothing is learned any more
    last, none = line(9.0, 9.0), Batches()
    best = descent(last, none, 0.1, 0.9, n_rounds=3, checkpoint=checkpoint).run()
    assert best["weight"].item() == whole.weight.item()
    assert none.asked == []


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


def tuning(tmp_path: Path, images: int = 9, held_out: int = 2, **changes: Any) -> LayerTuning:
    settings = FineTuningSettings(**{**SETTINGS, **changes})
    return LayerTuning(Numbered(images), Numbered(held_out, 100), settings, tmp_path / "state")


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


def test_values_of_the_recipe_reach_the_optimiser(tmp_path: Path) -> None:
    made = tuning(tmp_path)
    groups = made.descent.optimiser.param_groups
    assert [group["weight_decay"] for group in groups] == [0.25, 0.0]
    assert [group["momentum"] for group in groups] == [0.9, 0.9]
    assert made.descent.validation is not None
    assert made.descent.validation.rounds_per_snapshot == 15
    assert made.descent.checkpoint == Checkpoint(tmp_path / "state")


def test_layers_begin_random_by_their_seed_and_drop_what_the_recipe_says() -> None:
    settings = FineTuningSettings(**{**SETTINGS, "width": 400})
    layers: Any = build_layers(900, 3, settings)
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
    again: Any = build_layers(900, 3, settings)
    assert torch.equal(again[0].weight, fc6.weight)
    other: Any = build_layers(900, 3, FineTuningSettings(**{**SETTINGS, "width": 400, "seed": 4}))
    assert not torch.equal(other[0].weight, fc6.weight)


def test_nothing_is_dropped_from_boxes_that_snapshots_are_compared_on(tmp_path: Path) -> None:
    """Dropout is for learning alone: the same layers say the same of the same boxes."""
    made = tuning(tmp_path, dropout=0.9, iterations=1, lr=1e-12)
    made.run()
    network = made.descent.network.eval()
    assert made.descent.validation is not None
    batches = made.descent.validation.batches()
    with torch.inference_mode():
        losses = [batch.n_samples * float(softmax_loss(network(batch.inputs), batch.targets)) for batch in batches]
    assert made.descent.lowest == pytest.approx(sum(losses) / sum(batch.n_samples for batch in batches), rel=1e-5)


@pytest.mark.parametrize(("steps", "drops"), [((0.5,), [5]), ((0.25, 1.0), [3, 10]), ((), [])])
def test_rounds_and_falls_of_a_schedule(steps: tuple[float, ...], drops: list[int]) -> None:
    schedule = FineTuningSettings(**{**SETTINGS, "lr_steps": steps}).schedule(1)
    assert (schedule.n_rounds, list(schedule.drops), schedule.learning_rate, schedule.seed) == (10, drops, 0.1, 3)
    assert FineTuningSettings(**SETTINGS).schedule(1000).n_rounds == 1


def test_images_of_a_round_are_drawn_by_its_number() -> None:
    settings = FineTuningSettings(**SETTINGS)
    first, other = settings.draw(9, 0)[0], settings.draw(9, 1)[0]
    assert len(set(first.tolist())) == 5 == len(first)
    assert first.tolist() == settings.draw(9, 0)[0].tolist() != other.tolist()
    assert sorted(settings.draw(3, 0)[0].tolist()) == [0, 1, 2]
    assert FineTuningSettings(**{**SETTINGS, "seed": 4}).draw(9, 0)[0].tolist() != first.tolist()
