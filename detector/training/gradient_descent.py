"""Stochastic gradient descent that can be killed at any time and resumes to bit-identical weights.

Fully connected layers and classifiers are trained with it. Parameter groups, batches, schedule and loss are arguments.
All randomness follows from the seed and the number of the round.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.runtime.array_files import Arrays, stored_arrays, write_arrays
from detector.runtime.progress import Progress, no_progress

StateDict = dict[str, torch.Tensor]

Loss = Callable[[Any, Any], torch.Tensor]
"""Returns the mean loss, a scalar, of the outputs of the network and the targets of a batch."""

_log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Inputs of the network, targets of the loss, and the number of samples."""

    inputs: Any
    targets: Any
    n_samples: int


class Batches(Protocol):
    """Training data."""

    def round(self, number: int, first: int = 0) -> Iterable[Batch]:
        """Return the batches of a round, starting with the batch ``first``.

        Random choices follow from their numbers and from torch's generator, which is seeded for each round.
        """
        ...


@dataclass(frozen=True)
class Schedule:
    """Number of rounds and their learning rates; each of the rounds ``drops`` divides the rate by ten."""

    n_rounds: int
    lr: float
    drops: Sequence[int]
    seed: int

    def rate(self, number: int) -> float:
        """Return the learning rate of a round, counted from 0, before the factors of the parameter groups."""
        return self.lr * 0.1 ** sum(number >= drop for drop in self.drops)


@dataclass(frozen=True)
class Validation:
    """Selection of the best snapshot: by the mean loss on ``batches()`` after every ``rounds_per_snapshot`` rounds.

    The release selected on the test set; here the batches are held-out training data.
    """

    batches: Callable[[], Sequence[Batch]]
    rounds_per_snapshot: int


@dataclass(frozen=True)
class Checkpoint:
    """File of the training state, written after snapshots, at the end, and after a batch every ``seconds``.

    A finite number of seconds needs batches and layers whose random numbers follow from the number of the batch alone.
    """

    path: Path
    seconds: float = float("inf")


class GradientDescent:
    """A training with its state on disk: `run` starts or resumes it.

    network: computes the outputs of a batch in ``precision`` on ``device``.
    optimizer: its groups hold a ``factor`` of the schedule's learning rate, as those of `parameter_groups`.
    checkpoint: None writes nothing.
    validation: None makes the last state the result.
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

    def run(self, progress: Progress = no_progress, title: str = "training") -> StateDict:
        """Train to the end, from the checkpoint if there is one, and return the best state dict of the network.

        ``lowest`` is its mean loss on the validation batches. The last state stays on disk. Raises ValueError if a
        training with validation diverged or has no boxes to validate on.
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
            raise ValueError("fine-tuning diverged: its loss was never finite; lower lr")
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
            raise ValueError("the held-out images have no boxes to select a snapshot on")
        return batches

    def _validate(self, batches: Sequence[Batch]) -> None:
        self.network.eval()
        with torch.inference_mode():
            total = sum(batch.n_samples * float(self._loss(batch)) for batch in batches)
        loss = total / sum(batch.n_samples for batch in batches)
        _log.info("round %d: loss %.4f on held-out boxes", self.next_round, loss)
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


def to_arrays(tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """Return copies of tensors as arrays in row-major order, whatever their layout."""
    return {name: _to_array(tensor) for name, tensor in tensors.items()}


def _to_array(tensor: torch.Tensor) -> NDArray[np.generic]:
    return np.array(tensor.numpy(force=True), order="C")


def training_arrays(network: nn.Module, optimizer: torch.optim.SGD) -> Arrays:
    """Return the weights of a network and their momentum, by name."""
    arrays = {f"weights.{name}": array for name, array in to_arrays(network.state_dict()).items()}
    for name, parameter in network.named_parameters():
        if (momentum := optimizer.state[parameter].get("momentum_buffer")) is not None:
            arrays[f"momentum.{name}"] = _to_array(momentum)
    return arrays


def restore_training(arrays: Arrays, network: nn.Module, optimizer: torch.optim.SGD) -> None:
    """Load the state of `training_arrays` into a network and its optimizer."""
    network.load_state_dict({name: torch.from_numpy(arrays[f"weights.{name}"]) for name in network.state_dict()})
    for name, parameter in network.named_parameters():
        if (momentum := arrays.get(f"momentum.{name}")) is not None:
            # in the layout of the weights: another layout may be summed in another order
            buffer = torch.empty_like(parameter).copy_(torch.from_numpy(momentum)).detach()
            optimizer.state[parameter]["momentum_buffer"] = buffer


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the groups of weights and biases; biases learn twice as fast and do not decay (release)."""
    named = list(network.named_parameters())
    weights = [tensor for name, tensor in named if name.endswith("weight")]
    biases = [tensor for name, tensor in named if name.endswith("bias")]
    return [
        {"params": weights, "weight_decay": weight_decay, "factor": 1.0},
        {"params": biases, "weight_decay": 0.0, "factor": 2.0},
    ]


def softmax_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of scores ``(n, K)`` and labels ``(n,)`` int64."""
    return nn.functional.cross_entropy(scores.float(), labels.to(scores.device))
