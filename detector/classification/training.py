"""From labelled images to a classifier: stochastic gradient descent at one size or several (paper, section 3.1)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from detector.backbones.backbone import Backbone
from detector.backbones.truncation import network_digest
from detector.classification.model import Classifier
from detector.classification.network import TrainableClassifier
from detector.classification.samples import (
    ResizedImages,
    Samples,
    batch_seed,
    epoch_order,
    epoch_size,
    samples_digest,
    training_image,
)
from detector.config.classifier import ClassifierConfig, TrainingConfig
from detector.runtime.array_cache import stored_arrays
from detector.runtime.files import write_arrays
from detector.runtime.hashing import fingerprint
from detector.runtime.progress import Progress, without_progress
from detector.training.descent_state import descent_arrays, restore_descent, to_arrays

Item = TypeVar("Item")
Result = TypeVar("Result")
Batch = tuple[NDArray[np.uint8], NDArray[np.int8]]

Position = tuple[int, int]
"""Epoch and batch that come next."""

CHECKPOINT_SECONDS = 60.0


def train_classifier(
    config: ClassifierConfig,
    samples: Samples,
    directory: Path | None = None,
    progress: Progress = without_progress,
    device: str = "cpu",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Classifier:
    """Train a classifier on labelled images.

    Resized images and, every ``checkpoint_seconds``, the state of the training are kept under ``directory``, where
    there is one. Killed and called again, it goes on from its last state to the same bits, on the same processor and
    number of threads: whatever is random depends on seed, epoch and index alone. Exclusive classes are told apart by a
    softmax, others each by a logistic loss. Raises ValueError, before any work, for a class without a sample, for one
    exclusive class alone and for sizes that the network cannot take; and when the loss is no longer a number.
    """
    network = untrained(config, samples, device)
    optimiser = torch.optim.SGD(
        network.parameters(),
        config.training.learning_rate,
        momentum=config.training.momentum,
        weight_decay=config.training.weight_decay,
    )
    images = ResizedImages(samples, config.pictures.short_side, directory)
    steps = _Steps(config, network, optimiser, images, progress)
    if directory is None:
        for _ in steps.after((0, 0)):
            pass
    else:
        checkpoint = directory / f"training-{_identity(config, samples, network)}.safetensors"
        saved = time.monotonic()
        position = 0, 0
        if (state := stored_arrays(checkpoint, "starting over")) is not None:
            restore_descent(state[0], network, optimiser)
            position = state[1]["epoch"], state[1]["batch"]
        for reached in steps.after(position):
            position = reached
            if time.monotonic() - saved >= checkpoint_seconds:
                _save(checkpoint, network, optimiser, position)
                saved = time.monotonic()
        _save(checkpoint, network, optimiser, position)
    learned = to_arrays(network)
    backbone = network.ready(device)
    return Classifier(backbone, network.head, samples.class_names, samples.exclusive, config, learned)


def _save(path: Path, network: TrainableClassifier, optimiser: torch.optim.SGD, position: Position) -> None:
    epoch, batch = position
    write_arrays(path, descent_arrays(network, optimiser), {"epoch": epoch, "batch": batch})


def untrained(config: ClassifierConfig, samples: Samples, device: str = "cpu") -> TrainableClassifier:
    """The layers of a recipe for the classes of ``samples``. Raises ValueError as `train_classifier` does at once."""
    if samples.exclusive and len(samples.class_names) < 2:
        raise ValueError("a classifier needs two classes to tell apart, but there is one")
    missing = np.array(samples.class_names)[~(samples.targets > 0).any(axis=0)]
    if len(missing):
        raise ValueError(f"no image to learn from: {', '.join(missing)}")
    return TrainableClassifier(config, len(samples.class_names), device)


def _identity(config: ClassifierConfig, samples: Samples, network: TrainableClassifier) -> str:
    """A name for everything that changes the result of a training that is not yet begun."""
    settings: dict[str, object] = {
        "config": config.model_dump(mode="json"),
        "data": samples_digest(samples),
        "start": network_digest(network),
    }
    if isinstance(network.convolutions, Backbone):
        settings |= {"digest": network.convolutions.digest, "precision": network.convolutions.precision}
    return fingerprint(settings)


@dataclass(frozen=True)
class _Steps:
    """The steps of a training, one a batch."""

    config: ClassifierConfig
    network: TrainableClassifier
    optimiser: torch.optim.SGD
    images: ResizedImages
    progress: Progress

    def after(self, position: Position) -> Iterator[Position]:
        """Train from a position on; after each batch, the next position."""
        training = self.config.training
        first_epoch, first_batch = position
        title = f"epoch {{}} of {training.epochs}"
        with torch.random.fork_rng(), ThreadPoolExecutor(1) as pool:
            self.network.train()
            for epoch in range(first_epoch, training.epochs):
                self.optimiser.param_groups[0]["lr"] = learning_rate(training, epoch)
                order = epoch_order(len(self.images), training.seed, epoch)
                batches = list(enumerate(split_batches(order, training.batch)))
                batches = batches[first_batch if epoch == first_epoch else 0 :]
                loaded = _one_ahead(pool, partial(self._load, epoch), [rows for _, rows in batches])
                losses = []
                for batch, _ in self.progress(batches, title.format(epoch + 1)):
                    torch.manual_seed(batch_seed(training.seed, epoch, batch))
                    losses.append(self._step(*next(loaded)))
                    yield epoch, batch + 1
                title = f"epoch {{}} of {training.epochs}, loss before {np.mean(losses or np.nan):.3f}"

    def _load(self, epoch: int, rows: NDArray[np.int64]) -> Batch:
        seed, crop = self.config.training.seed, self.config.pictures.crop
        size = epoch_size(self.config.pictures, seed, epoch)
        images = [training_image(self.images[i], crop, size, seed, epoch, i) for i in rows.tolist()]
        return np.stack(images), self.images.samples.targets[rows]

    def _step(self, images: NDArray[np.uint8], targets: NDArray[np.int8]) -> float:
        logits = self.network(images)
        loss = classification_loss(logits, torch.from_numpy(targets), self.images.samples.exclusive)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        if not math.isfinite(value := loss.item()):
            raise ValueError("training diverged: its loss is no number any more; lower training.learning_rate")
        return value


def split_batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Batches of ``size`` indices and a last one of what is left, which is never a single one after others.

    Batch normalisation has no statistics of a single value.
    """
    starts = range(size, len(order) - (size > 1), size)
    return np.split(order, starts)


def _one_ahead(pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in order, the next one computed while the last is used."""
    coming = None
    for item in items:
        future = pool.submit(function, item)
        if coming is not None:
            yield coming.result()
        coming = future
    if coming is not None:
        yield coming.result()


def classification_loss(logits: torch.Tensor, targets: torch.Tensor, exclusive: bool) -> torch.Tensor:
    """Mean over samples of the softmax cross-entropy, or of the sum of the classes' logistic losses.

    logits: (N, K); targets: (N, K) of 1, -1, or 0 for a class that is not judged. Returns a scalar.
    """
    targets = targets.to(logits.device)
    if exclusive:
        return F.cross_entropy(logits, targets.argmax(1))
    losses = F.softplus(-targets * logits) * (targets != 0)
    return losses.sum(1).mean()


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """The rate of an epoch, counted from 0."""
    return config.learning_rate * 0.1 ** sum(epoch >= drop for drop in config.drops)
