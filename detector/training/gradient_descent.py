"""Stochastic gradient descent that can be killed at any time and goes on to the same bits.

Everything that is trained by gradients is trained here: fully connected layers, convolutions, classifiers. What
differs comes in as values: the parameter groups of the optimizer, the batches, the schedule and the loss. All
randomness follows from the seed and the number of the round.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from detector.runtime.array_cache import stored_arrays
from detector.runtime.files import Arrays, write_arrays
from detector.runtime.progress import Progress, without_progress
from detector.training.checkpoints import Checkpoint, restore_training, to_arrays, training_arrays

StateDict = dict[str, torch.Tensor]

Loss = Callable[[Any, Any], torch.Tensor]
"""Outputs of the network and targets of a batch -> their mean loss, a scalar."""

_log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """What the network takes, what the loss compares its outputs with, and the number of samples."""

    inputs: Any
    targets: Any
    n_samples: int


class Batches(Protocol):
    """What a training learns from."""

    def round(self, number: int, first: int = 0) -> Iterable[Batch]:
        """The batches of a round from the ``first`` on.

        What is random in them follows from their numbers and from torch's generator, which is seeded for each round.
        """
        ...


@dataclass(frozen=True)
class Schedule:
    """Rounds of a training and their learning rates: a tenth from each of the rounds ``drops`` on."""

    n_rounds: int
    learning_rate: float
    drops: Sequence[int]
    seed: int

    def rate(self, number: int) -> float:
        """The learning rate of a round, counted from 0, before the factors of the parameter groups."""
        return self.learning_rate * 0.1 ** sum(number >= drop for drop in self.drops)


@dataclass(frozen=True)
class Validation:
    """How the best state is chosen: by the mean loss on ``batches()`` after every ``rounds_per_snapshot`` rounds.

    The release chose it on the test set, which this does not.
    """

    batches: Callable[[], Sequence[Batch]]
    rounds_per_snapshot: int


class GradientDescent:
    """A training and its state on disk: `run` starts it or goes on with it.

    network: gives outputs for the inputs of a batch; computed in ``precision`` on ``device``.
    optimizer: its groups hold a ``factor`` of the schedule's learning rate, as those of `parameter_groups`.
    loss: of outputs and targets.
    checkpoint: None: nothing is kept on disk.
    validation: None: the last state is the result.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.SGD,
        batches: Batches,
        schedule: Schedule,
        loss: Loss,
        checkpoint: Checkpoint | None,
        validation: Validation | None = None,
        precision: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.network, self.optimizer, self.batches = network, optimizer, batches
        self.schedule, self.loss, self.checkpoint, self.validation = schedule, loss, checkpoint, validation
        self.device, self.dtype = torch.device(device), getattr(torch, precision)
        self.best: StateDict = {}
        self.lowest = float("inf")
        self.next_round, self.next_batch = 0, 0
        self._saved = 0.0

    def run(self, progress: Progress = without_progress, title: str = "training") -> StateDict:
        """Train to the end, from the checkpoint if there is one; the state dict of the network at its best.

        ``lowest`` is the mean loss of that on the validation batches. The last state stays for another call. Raises
        ValueError when a training with validation diverged, or has nothing to validate on.
        """
        self._load()
        self._saved = time.monotonic()
        n_rounds = self.schedule.n_rounds
        if self.next_round < n_rounds:
            held_out = self._validation_batches()
            for number in progress(range(self.next_round, n_rounds), title):
                self._round(number)
                last = self.next_round == n_rounds
                if self.validation and (last or self.next_round % self.validation.rounds_per_snapshot == 0):
                    self._validate(held_out)
                    self._save()
                elif last:
                    self.best = self.network.state_dict()
                    self._save()
        if self.validation and self.lowest == float("inf"):
            raise ValueError("fine-tuning diverged: its loss was never a number; lower lr")
        return self.best

    def _round(self, number: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(number) * group["factor"]
        self.network.train()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.schedule.seed + number)
            for batch in self.batches.round(number, self.next_batch):
                loss = self._loss(batch)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.next_batch += 1
                if self.checkpoint and time.monotonic() - self._saved >= self.checkpoint.seconds:
                    self._save()
        self.next_round, self.next_batch = number + 1, 0

    def _loss(self, batch: Batch) -> torch.Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            outputs = self.network(batch.inputs)
        return self.loss(outputs, batch.targets)

    def _validation_batches(self) -> Sequence[Batch]:
        if self.validation is None:
            return []
        batches = self.validation.batches()
        if not sum(batch.n_samples for batch in batches):
            raise ValueError("no boxes to choose a snapshot on in the images that are held out")
        return batches

    def _validate(self, batches: Sequence[Batch]) -> None:
        self.network.eval()
        with torch.inference_mode():
            total = sum(batch.n_samples * float(self._loss(batch)) for batch in batches)
        loss = total / sum(batch.n_samples for batch in batches)
        _log.info("round %d: loss %.4f on boxes held out", self.next_round, loss)
        if loss < self.lowest:
            self.lowest = loss
            self.best = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        arrays: Arrays = {f"best.{name}": array for name, array in to_arrays(self.best).items()}
        if self.next_round < self.schedule.n_rounds:
            arrays |= training_arrays(self.network, self.optimizer)
        position = {"next_round": self.next_round, "next_batch": self.next_batch, "lowest": self.lowest}
        write_arrays(self.checkpoint.path, arrays, position)
        self._saved = time.monotonic()

    def _load(self) -> None:
        if self.checkpoint is None:
            return
        state = stored_arrays(self.checkpoint.path, "starting over", ("next_round", "lowest"))
        if state is None:
            return
        arrays, metadata = state
        best = {name: arrays.get(f"best.{name}") for name in self.network.state_dict()}
        self.best = {name: torch.from_numpy(array) for name, array in best.items() if array is not None}
        self.next_round, self.lowest = metadata["next_round"], metadata["lowest"]
        self.next_batch = metadata.get("next_batch", 0)
        if self.next_round < self.schedule.n_rounds:
            restore_training(arrays, self.network, self.optimizer)


def parameter_groups(network: nn.Module, weight_decay: float, factor: float = 1.0) -> list[dict[str, Any]]:
    """The weights and the biases of a network that learn: biases learn twice as fast and do not decay (release).

    ``factor`` is of the learning rate.
    """
    learning = [(name, tensor) for name, tensor in network.named_parameters() if tensor.requires_grad]
    weights = [tensor for name, tensor in learning if name.endswith("weight")]
    biases = [tensor for name, tensor in learning if name.endswith("bias")]
    return [
        {"params": weights, "weight_decay": weight_decay, "factor": factor},
        {"params": biases, "weight_decay": 0.0, "factor": 2.0 * factor},
    ]


def sgd(groups: Sequence[dict[str, Any]], momentum: float, device: str = "cpu") -> torch.optim.SGD:
    """The optimizer of some `parameter_groups`, in one kernel where there is one; rates come from the schedule."""
    return torch.optim.SGD(groups, momentum=momentum, fused=torch.device(device).type == "cpu" or None)


def softmax_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of scores ``(n, K)`` and labels ``(n,)`` int64."""
    return nn.functional.cross_entropy(scores.float(), labels.to(scores.device))
