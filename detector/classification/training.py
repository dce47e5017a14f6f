"""From labeled images to a classifier: stochastic gradient descent at one size or several (paper, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from detector.backbones.torch_backbone import Backbone
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
from detector.runtime.files import fingerprint
from detector.runtime.progress import Progress, without_progress
from detector.training.checkpoints import Checkpoint, to_arrays
from detector.training.gradient_descent import Batch, GradientDescent, Schedule

Item = TypeVar("Item")
Result = TypeVar("Result")

CHECKPOINT_SECONDS = 60.0

_CHECKPOINT_FORMAT = 2


def train_classifier(
    config: ClassifierConfig,
    samples: Samples,
    directory: Path | None = None,
    progress: Progress = without_progress,
    device: str = "cpu",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Classifier:
    """Train a classifier on labeled images.

    Resized images and, every ``checkpoint_seconds``, the state of the training are kept under ``directory``, where
    there is one. Killed and called again, it goes on from its last state to the same bits, on the same processor and
    number of threads: whatever is random depends on seed, epoch and index alone. Exclusive classes are told apart by a
    softmax, others each by a logistic loss. Raises ValueError, before any work, for a class without a sample, for one
    exclusive class alone and for sizes that the network cannot take; and when the loss is no longer a number.
    """
    network = untrained(config, samples, device)
    checkpoint = None
    if directory is not None:
        file = directory / f"training-{_identity(config, samples, network)}.safetensors"
        checkpoint = Checkpoint(file, checkpoint_seconds)
    epochs = _Epochs(config, ResizedImages(samples, config.pictures.short_side, directory), progress)
    schedule = training_schedule(config.training)
    descent = GradientDescent(
        network, _optimizer(config.training, network), epochs, schedule, epochs.loss, checkpoint, device=device
    )
    network.load_state_dict(descent.run())
    learned = to_arrays(network.state_dict())
    backbone = network.ready(device)
    return Classifier(backbone, network.head, samples.class_names, samples.exclusive, config, learned)


def untrained(config: ClassifierConfig, samples: Samples, device: str = "cpu") -> TrainableClassifier:
    """The layers of a recipe for the classes of ``samples``. Raises ValueError as `train_classifier` does at once."""
    if samples.exclusive and len(samples.class_names) < 2:
        raise ValueError("a classifier needs two classes to tell apart, but there is one")
    missing = np.array(samples.class_names)[~(samples.targets > 0).any(axis=0)]
    if len(missing):
        raise ValueError(f"no image to learn from: {', '.join(missing)}")
    return TrainableClassifier(config, len(samples.class_names), device)


def training_schedule(config: TrainingConfig) -> Schedule:
    """The epochs of a recipe and their learning rates."""
    return Schedule(config.epochs, config.learning_rate, config.drops, config.seed)


def _optimizer(config: TrainingConfig, network: TrainableClassifier) -> torch.optim.SGD:
    groups = [{"params": list(network.parameters()), "factor": 1.0}]
    return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)


def _identity(config: ClassifierConfig, samples: Samples, network: TrainableClassifier) -> str:
    """A name for everything that changes the result of a training that is yet to begin."""
    settings: dict[str, object] = {
        "config": config.model_dump(mode="json"),
        "data": samples_digest(samples),
        "start": network_digest(network),
        "format": _CHECKPOINT_FORMAT,
    }
    if isinstance(network.convolutions, Backbone):
        settings |= {"digest": network.convolutions.digest, "precision": network.convolutions.precision}
    return fingerprint(settings)


@dataclass
class _Epochs:
    """The batches of each epoch, with the next one loaded while one is learned from, and their losses."""

    config: ClassifierConfig
    images: ResizedImages
    progress: Progress
    losses: list[float] = field(default_factory=list)

    def round(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch; each seeds torch's generator for what is random inside the network."""
        training, title = self.config.training, f"epoch {number + 1} of {self.config.training.epochs}"
        if self.losses:
            title += f", loss before {np.mean(self.losses):.3f}"
        self.losses.clear()
        order = epoch_order(len(self.images), training.seed, number)
        batches = list(enumerate(split_batches(order, training.batch)))[first:]
        with ThreadPoolExecutor(1) as pool:
            loaded = prefetch(pool, partial(self._load, number), [rows for _, rows in batches])
            for index, _ in self.progress(batches, title):
                torch.manual_seed(batch_seed(training.seed, number, index))
                yield next(loaded)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """`classification_loss`. Raises ValueError when it is no longer a number."""
        loss = classification_loss(logits, targets, self.images.samples.exclusive)
        if not math.isfinite(value := loss.item()):
            raise ValueError("training diverged: its loss is no number any more; lower training.learning_rate")
        self.losses.append(value)
        return loss

    def _load(self, epoch: int, rows: NDArray[np.int64]) -> Batch:
        seed, crop = self.config.training.seed, self.config.pictures.crop
        size = epoch_size(self.config.pictures, seed, epoch)
        images = [training_image(self.images[i], crop, size, seed, epoch, i) for i in rows.tolist()]
        return Batch(np.stack(images), torch.from_numpy(self.images.samples.targets[rows]), len(rows))


def split_batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Batches of ``size`` indices and a last one of what is left, which is a single one only if there are no others.

    Batch normalization has no statistics of a single value.
    """
    starts = range(size, len(order) - (size > 1), size)
    return np.split(order, starts)


def prefetch(pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
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

    logits: (N, K); targets: (N, K) of 1, -1, or 0 for a class that is ignored. Returns a scalar.
    """
    targets = targets.to(logits.device)
    if exclusive:
        return F.cross_entropy(logits, targets.argmax(1))
    losses = F.softplus(-targets * logits) * (targets != 0)
    return losses.sum(1).mean()
