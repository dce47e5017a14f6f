"""Stochastic gradient descent in rounds that can be killed, with the best snapshot on data that are held out.

All randomness follows from the seed and the number of the round, so that a training that was killed goes on to the
same bits. The release chose its snapshot on the test set, which this does not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from detector.runtime.files import Arrays, write_arrays
from detector.runtime.progress import Progress, without_progress
from detector.training.descent_state import descent_arrays, read_state, restore_descent

_log = logging.getLogger(__name__)

Batch = tuple[Any, torch.Tensor]
"""What the network takes, and the labels ``(n,)`` int64 of the n rows that it gives for it."""


class Batches(Protocol):
    """What a training learns from."""

    def round(self, number: int) -> Iterable[Batch]:
        """The batches of a round; random by its number, by numpy, and by torch's generator, which is seeded."""
        ...

    def held_out(self) -> Sequence[Batch]:
        """What snapshots are judged by, the same at every call."""
        ...


@dataclass(frozen=True)
class Schedule:
    """The learning rate falls to a tenth at each of ``lr_steps``, fractions of all rounds."""

    n_rounds: int
    lr: float
    lr_steps: Sequence[float]
    momentum: float
    seed: int
    rounds_per_snapshot: int


class Descent:
    """A training and its state on disk: `run` starts it or goes on with it.

    ``network`` gives scores ``(n, K)`` of the inputs of a batch, in ``precision`` on ``device``. ``groups`` are its
    parameters as torch's optimisers take them, each with its ``factor`` of the learning rate.
    """

    def __init__(
        self,
        network: nn.Module,
        groups: Sequence[dict[str, Any]],
        batches: Batches,
        schedule: Schedule,
        checkpoint: Path,
        precision: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.network, self.batches, self.schedule, self.checkpoint = network, batches, schedule, checkpoint
        self.device, self.dtype = torch.device(device), getattr(torch, precision)
        self.optimiser = torch.optim.SGD(
            groups, lr=schedule.lr, momentum=schedule.momentum, fused=self.device.type == "cpu" or None
        )
        self.best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        self.lowest = float("inf")
        self.next_round = 0

    def run(self, progress: Progress = without_progress, title: str = "training") -> dict[str, torch.Tensor]:
        """Train to the end, from the checkpoint if there is one; the state of the network at its best.

        ``lowest`` is its mean loss on what is held out. The last state stays for another call. Raises ValueError when
        the training diverged, and when there is nothing to judge it by.
        """
        self._load()
        if self.next_round < self.schedule.n_rounds:
            held_out = self.batches.held_out()
            if not sum(len(labels) for _, labels in held_out):
                raise ValueError("no boxes to choose a snapshot on in the images that are held out")
            for number in progress(range(self.next_round, self.schedule.n_rounds), title):
                self._round(number)
                if (number + 1) % self.schedule.rounds_per_snapshot == 0 or number + 1 == self.schedule.n_rounds:
                    self._snapshot(number + 1, held_out)
        if self.lowest == float("inf"):
            raise ValueError("fine-tuning diverged: its loss was never a number; lower lr")
        return self.best

    def _round(self, number: int) -> None:
        passed = number / self.schedule.n_rounds
        lr = self.schedule.lr * 0.1 ** sum(passed >= step for step in self.schedule.lr_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group["factor"]
        self.network.train()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.schedule.seed + number)
            for inputs, labels in self.batches.round(number):
                loss = self._loss(inputs, labels)
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()

    def _loss(self, inputs: Any, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            scores = self.network(inputs)
        return nn.functional.cross_entropy(scores.float(), labels.to(self.device))

    def _snapshot(self, next_round: int, held_out: Sequence[Batch]) -> None:
        self.network.eval()
        with torch.inference_mode():
            total = sum(len(labels) * float(self._loss(inputs, labels)) for inputs, labels in held_out)
        loss = total / sum(len(labels) for _, labels in held_out)
        _log.info("round %d: loss %.4f on boxes held out", next_round, loss)
        if loss < self.lowest:
            self.lowest = loss
            self.best = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.next_round = next_round
        self._save()

    def _save(self) -> None:
        arrays: Arrays = {f"best.{name}": tensor.numpy(force=True) for name, tensor in self.best.items()}
        if self.next_round < self.schedule.n_rounds:
            arrays |= descent_arrays(self.network, self.optimiser)
        write_arrays(self.checkpoint, arrays, {"next_round": self.next_round, "lowest": self.lowest})

    def _load(self) -> None:
        if (state := read_state(self.checkpoint)) is None:
            return
        arrays, metadata = state
        self.best = {name: torch.from_numpy(arrays[f"best.{name}"]) for name in self.best}
        self.next_round, self.lowest = metadata["next_round"], metadata["lowest"]
        if self.next_round < self.schedule.n_rounds:
            restore_descent(arrays, self.network, self.optimiser)


def by_kind(network: nn.Module, weight_decay: float, factor: float = 1.0) -> list[dict[str, Any]]:
    """The weights and biases of a network that learn, as groups: biases learn twice as fast and do not decay (release).

    ``factor`` is of the learning rate.
    """
    learning = [(name, tensor) for name, tensor in network.named_parameters() if tensor.requires_grad]
    weights = [tensor for name, tensor in learning if name.endswith("weight")]
    biases = [tensor for name, tensor in learning if name.endswith("bias")]
    return [
        {"params": weights, "weight_decay": weight_decay, "factor": factor},
        {"params": biases, "weight_decay": 0.0, "factor": 2.0 * factor},
    ]
