"""Fully connected layers trained on pooled features by stochastic gradient descent (paper, section 4.1).

The convolution is frozen, so features come from cached maps. A round pools boxes of some pictures at random scales
(release: spp_finetune) and trains on them in random order; all randomness follows from the seed and the number of the
round, so that a training that was killed goes on to the same bits. The best snapshot on pictures that are held out is
kept: the release chose it on the test set, which this does not.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.files import Arrays, read_arrays, write_arrays
from detector.heads.fully_connected import FullyConnected, Softmax
from detector.progress import Progress, without_progress

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FineTuningSettings:
    """Constants of the training.

    ``width`` is that of fc6 and fc7. ``iterations`` are batches of ``batch_size`` boxes; the learning rate falls to a
    tenth at each of ``lr_steps``, fractions of them. Biases learn twice as fast and do not decay. A round takes
    ``boxes_per_picture`` of ``pictures_per_round`` pictures. Every ``rounds_per_snapshot`` rounds the layers are scored
    on the pictures held out.
    """

    width: int
    iterations: int
    lr: float
    lr_steps: Sequence[float]
    momentum: float
    weight_decay: float
    dropout: float
    batch_size: int
    seed: int
    pictures_per_round: int = 64
    boxes_per_picture: int = 64
    rounds_per_snapshot: int = 15


class SampledPictures(Protocol):
    """Pictures that give random boxes to learn from, the same ones for the same random state."""

    @property
    def n_features(self) -> int: ...
    @property
    def n_classes(self) -> int: ...
    def __len__(self) -> int: ...

    def sample(
        self, index: int, n_boxes: int, random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features ``(n, D)`` of at most ``n_boxes`` boxes and their labels ``(n,)``, background being K."""
        ...


@dataclass(frozen=True, eq=False)
class FineTuned:
    """Weights and biases of fc6 and fc7 after training, fc8 as a `Softmax`, and the loss on boxes held out."""

    fc6: tuple[NDArray[np.float16], NDArray[np.float32]]
    fc7: tuple[NDArray[np.float16], NDArray[np.float32]]
    fc8: Softmax
    held_out_loss: float

    def up_to(
        self, layer: str, precision: str = "float32", device: str = "cpu", beside_inputs: bool = False
    ) -> FullyConnected:
        """The layers up to "fc6" or "fc7"."""
        layers = [self.fc6] if layer == "fc6" else [self.fc6, self.fc7]
        weights, biases = zip(*layers, strict=True)
        return FullyConnected(weights, biases, precision, device, beside_inputs)


class FineTuning:
    """A training and its state on disk: `run` starts it or goes on with it."""

    def __init__(
        self,
        pictures: SampledPictures,
        held_out: SampledPictures,
        settings: FineTuningSettings,
        checkpoint: Path,
        precision: str = "float32",
        device: str = "cpu",
        start: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]] = (),
    ) -> None:
        self.pictures, self.held_out, self.settings = pictures, held_out, settings
        self.checkpoint = checkpoint
        self.device, self.dtype = torch.device(device), getattr(torch, precision)
        self.network = self._network(start)
        self.optimiser = torch.optim.SGD(
            self._groups(), lr=settings.lr, momentum=settings.momentum, fused=self.device.type == "cpu" or None
        )
        self.best = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.lowest = float("inf")
        boxes = min(settings.pictures_per_round, len(pictures)) * settings.boxes_per_picture
        self.batches = max(1, boxes // settings.batch_size)
        self.n_rounds = max(1, round(settings.iterations / self.batches))
        self.next_round = 0

    def _network(self, start: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> nn.Sequential:
        width, dropout = self.settings.width, self.settings.dropout
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            sizes = (self.pictures.n_features, width), (width, width), (width, self.pictures.n_classes + 1)
            fc6, fc7, fc8 = (nn.Linear(*size) for size in sizes)
            for layer in (fc6, fc7):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(fc8.weight, std=0.01)
            for layer in (fc6, fc7, fc8):
                nn.init.zeros_(layer.bias)
        for layer, (weights, biases) in zip((fc6, fc7), start, strict=False):
            if layer.weight.shape != weights.shape:
                raise ValueError(f"width must be {len(weights)}, that of the layers to begin with, but is {width}")
            layer.load_state_dict({"weight": torch.from_numpy(weights), "bias": torch.from_numpy(biases)})
        parts = [fc6, nn.ReLU(), nn.Dropout(dropout), fc7, nn.ReLU(), nn.Dropout(dropout), fc8]
        return nn.Sequential(*parts).to(self.device)

    def _groups(self) -> list[dict[str, Any]]:
        weights = [tensor for name, tensor in self.network.named_parameters() if name.endswith("weight")]
        biases = [tensor for name, tensor in self.network.named_parameters() if name.endswith("bias")]
        # release: biases learn twice as fast and do not decay
        return [
            {"params": weights, "weight_decay": self.settings.weight_decay, "factor": 1.0},
            {"params": biases, "weight_decay": 0.0, "factor": 2.0},
        ]

    def run(self, progress: Progress = without_progress) -> FineTuned:
        """Train to the end, from the checkpoint if there is one. Its last state stays for another call.

        Raises ValueError when the training diverged, and when there are no boxes to judge it by.
        """
        settings = self.settings
        self._load()
        if self.next_round == self.n_rounds:
            return self._result()
        validation = self._validation()
        if not len(validation[1]):
            raise ValueError(f"no boxes to choose a snapshot on in the {len(self.held_out)} pictures that are held out")
        for number in progress(range(self.next_round, self.n_rounds), f"fine-tuning, batches x {self.batches}"):
            passed = number / self.n_rounds
            lr = settings.lr * 0.1 ** sum(passed >= step for step in settings.lr_steps)
            for group in self.optimiser.param_groups:
                group["lr"] = lr * group["factor"]
            self._train(*self._round(number), seed=settings.seed + number)
            if (number + 1) % settings.rounds_per_snapshot == 0 or number + 1 == self.n_rounds:
                self._snapshot(number + 1, *validation)
        return self._result()

    def _round(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        random = np.random.default_rng((self.settings.seed, number))
        chosen = random.permutation(len(self.pictures))[: self.settings.pictures_per_round]
        return self._sampled(self.pictures, chosen, random)

    def _validation(self) -> tuple[torch.Tensor, torch.Tensor]:
        random = np.random.default_rng(self.settings.seed)
        return self._sampled(self.held_out, np.arange(len(self.held_out)), random, 32)

    def _sampled(
        self, pictures: SampledPictures, chosen: NDArray[np.int64], random: np.random.Generator, n_boxes: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n_boxes = n_boxes or self.settings.boxes_per_picture
        features = torch.empty(len(chosen) * n_boxes, pictures.n_features, dtype=self.dtype)
        labels = torch.empty(len(features), dtype=torch.int64)
        end = 0
        for index in chosen:
            values, own = pictures.sample(int(index), n_boxes, random)
            start, end = end, end + len(own)
            features[start:end] = torch.from_numpy(values)
            labels[start:end] = torch.from_numpy(own)
        return features[:end], labels[:end]

    def _train(self, features: torch.Tensor, labels: torch.Tensor, seed: int) -> None:
        self.network.train()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            for rows in torch.randperm(len(labels)).split(self.settings.batch_size):
                loss = self._loss(features[rows], labels[rows])
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()

    def _loss(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        features, labels = features.to(self.device), labels.to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            scores = self.network(features)
        return nn.functional.cross_entropy(scores.float(), labels)

    def _snapshot(self, next_round: int, features: torch.Tensor, labels: torch.Tensor) -> None:
        self.network.eval()
        with torch.inference_mode():
            parts = zip(features.split(1024), labels.split(1024), strict=True)
            total = sum(len(own) * float(self._loss(values, own)) for values, own in parts)
        loss = total / len(labels)
        _log.info("round %d: loss %.4f on boxes held out", next_round, loss)
        if loss < self.lowest:
            self.lowest = loss
            self.best = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.next_round = next_round
        self._save()

    def _save(self) -> None:
        arrays: Arrays = {f"best.{name}": tensor.numpy(force=True) for name, tensor in self.best.items()}
        if self.next_round < self.n_rounds:
            for name, tensor in self.network.named_parameters():
                arrays[f"network.{name}"] = tensor.numpy(force=True)
                if self.settings.momentum:
                    arrays[f"momentum.{name}"] = self.optimiser.state[tensor]["momentum_buffer"].numpy(force=True)
        write_arrays(self.checkpoint, arrays, {"next_round": self.next_round, "lowest": self.lowest})

    def _load(self) -> None:
        try:
            arrays, metadata = read_arrays(self.checkpoint)
        except FileNotFoundError:
            return
        except ValueError as error:
            _log.warning("%s; starting over", error)
            return

        def part(prefix: str) -> dict[str, torch.Tensor]:
            named = {name: array for name, array in arrays.items() if name.startswith(prefix)}
            return {name.removeprefix(prefix): torch.tensor(array) for name, array in named.items()}

        self.best = part("best.")
        self.next_round, self.lowest = metadata["next_round"], metadata["lowest"]
        if self.next_round < self.n_rounds:
            self.network.load_state_dict(part("network."))
            momentum = part("momentum.")
            parameters = dict(self.network.named_parameters())
            for name, buffer in momentum.items():
                self.optimiser.state[parameters[name]]["momentum_buffer"] = buffer.to(self.device)

    def _result(self) -> FineTuned:
        if not np.isfinite(self.lowest):
            raise ValueError("fine-tuning diverged: its loss was never a number; lower lr")
        values = {name: tensor.numpy(force=True) for name, tensor in self.best.items()}
        fc6, fc7 = ((values[f"{i}.weight"].astype(np.float16), values[f"{i}.bias"]) for i in (0, 3))
        softmax = Softmax(np.ascontiguousarray(values["6.weight"].T), values["6.bias"])
        return FineTuned(fc6, fc7, softmax, self.lowest)
