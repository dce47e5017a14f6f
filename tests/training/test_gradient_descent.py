"""Gradient descent by hand: rates of weights and biases, decay, momentum, the best state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detector.training import gradient_descent as module
from detector.training.gradient_descent import (
    Batch,
    Checkpoint,
    GradientDescent,
    Schedule,
    Validation,
    parameter_groups,
)


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
    optimizer = torch.optim.SGD(parameter_groups(layer, decay), momentum=momentum)
    n_rounds = more.pop("n_rounds", 1)
    schedule = Schedule(n_rounds, 0.1, drops, seed=0)
    return GradientDescent(layer, optimizer, batches, schedule, mean_output, more.pop("checkpoint", None), **more)


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


def test_parameters_are_grouped_into_weights_and_biases() -> None:
    layer = line()
    weights, biases = parameter_groups(layer, 0.25)
    assert [id(each) for each in weights["params"]] == [id(layer.weight)]
    assert [id(each) for each in biases["params"]] == [id(layer.bias)]
    assert (weights["weight_decay"], biases["weight_decay"]) == (0.25, 0.0)
    assert (weights["factor"], biases["factor"]) == (1.0, 2.0)


def test_the_best_state_has_the_lowest_mean_loss_per_sample() -> None:
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


def test_snapshots_are_validated_every_few_rounds_and_at_the_end() -> None:
    """The loss is the square of the bias, which goes from 1 in steps of .4: .6, .2, -.2, -.6, -1."""
    layer = line(weight=0.0, bias=1.0)
    validated: list[float] = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if torch.is_inference_mode_enabled():
            validated.append(round(float(layer.bias), 3))
            return (outputs**2).mean()
        return 2 * outputs.mean()

    optimizer = torch.optim.SGD(parameter_groups(layer, 0.0), momentum=0.0)
    held_out = [Batch(torch.zeros(1, 1), torch.zeros(1), 1)]
    schedule = Schedule(5, 0.1, (), seed=0)
    trained = GradientDescent(layer, optimizer, Batches(0.0), schedule, loss, None, Validation(lambda: held_out, 2))
    best = trained.run()
    assert validated == [0.2, -0.6, -1.0]
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
    # done: the result is loaded, and nothing is trained any more
    last, none = line(9.0, 9.0), Batches()
    best = descent(last, none, 0.1, 0.9, n_rounds=3, checkpoint=checkpoint).run()
    assert best["weight"].item() == whole.weight.item()
    assert none.asked == []


def test_states_are_kept_some_seconds_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # reading the clock takes 4 s, a batch and a write none: 10 s are over at the third batch, and the sixth
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    written: list[int] = []

    def write(path: Path, arrays: Any, position: dict[str, int]) -> None:
        written.append(position["next_batch"])

    monkeypatch.setattr(module, "write_arrays", write)
    descent(line(), Batches(*[1.0] * 8), 0.0, 0.0, checkpoint=Checkpoint(tmp_path / "state", seconds=10)).run()
    assert written == [3, 6, 0]


def test_dropout_follows_from_the_seed_and_the_round(tmp_path: Path) -> None:
    def trained(seed: int, checkpoint: Checkpoint | None = None, n_rounds: int = 4) -> list[float]:
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Dropout(0.5), line())
        optimizer = torch.optim.SGD(parameter_groups(network, 0.0), momentum=0.9)
        schedule = Schedule(n_rounds, 0.1, (), seed=7)
        module.GradientDescent(network, optimizer, Batches(1.0, 2.0, 3.0), schedule, mean_output, checkpoint).run()
        return [float(each.item()) for each in network.parameters()]

    whole = trained(0)
    assert trained(1) == whole
    # a state of two rounds, as a training that was killed leaves it
    kept = Checkpoint(tmp_path / "state")
    network = nn.Sequential(nn.Dropout(0.5), line())
    first = module.GradientDescent(
        network,
        torch.optim.SGD(parameter_groups(network, 0.0), momentum=0.9),
        Batches(1.0, 2.0, 3.0),
        Schedule(4, 0.1, (), 7),
        mean_output,
        kept,
    )
    first._round(0)
    first._round(1)
    first._save()
    assert trained(2, kept) == whole
