"""Train a classifier on labeled images by gradient descent, at one or several sizes (paper, section 3.1)."""

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

from detector.backbones.torch_backbone import TorchBackbone
from detector.backbones.truncation import network_digest
from detector.classification.model import Classifier
from detector.classification.network import TrainableClassifier
from detector.classification.samples import (
    ResizedImages,
    batch_seed,
    epoch_order,
    epoch_size,
    samples_digest,
    training_image,
)
from detector.config.classifier import ClassifierConfig, TrainingConfig
from detector.datasets.image_classes import LabeledImages
from detector.runtime.files import fingerprint
from detector.runtime.progress import Progress, no_progress
from detector.training.gradient_descent import Batch, Checkpoint, GradientDescent, Schedule, to_arrays

Item = TypeVar("Item")
Result = TypeVar("Result")

CHECKPOINT_SECONDS = 60.0

_CHECKPOINT_FORMAT = 2


def train_classifier(
    config: ClassifierConfig,
    samples: LabeledImages,
    directory: Path | None = None,
    progress: Progress = no_progress,
    device: str = "cpu",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Classifier:
    """Train a classifier on labeled images.

    With a ``directory``, resized images and, every ``checkpoint_seconds``, the training state are kept there. Killed
    and called again, training resumes to bit-identical weights on the same processor and number of threads: all random
    choices depend on seed, epoch and index only. Exclusive classes are trained with a softmax, others with a logistic
    loss each. Raises ValueError, before any work, for a class without a sample, for a single exclusive class and for
    sizes that the network cannot take; and if the loss is not finite.
    """
    network = untrained_classifier(config, samples, device)
    checkpoint = None
    if directory is not None:
        file = directory / f"training-{_training_key(config, samples, network)}.safetensors"
        checkpoint = Checkpoint(file, checkpoint_seconds)
    epochs = _Epochs(config, ResizedImages(samples, config.images.short_side, directory), progress)
    schedule = training_schedule(config.training)
    descent = GradientDescent(
        network, _optimizer(config.training, network), epochs, schedule, epochs.loss, checkpoint, device=device
    )
    network.load_state_dict(descent.run())
    trained = to_arrays(network.state_dict())
    backbone = network.ready(device)
    return Classifier(backbone, network.head, samples.class_names, samples.exclusive, config, trained)


def untrained_classifier(config: ClassifierConfig, samples: LabeledImages, device: str = "cpu") -> TrainableClassifier:
    """Return the untrained layers of a recipe. Raises the ValueErrors of `train_classifier` before any work."""
    if samples.exclusive and len(samples.class_names) < 2:
        raise ValueError("a classifier needs at least two exclusive classes, but there is one")
    missing = np.array(samples.class_names)[~(samples.targets > 0).any(axis=0)]
    if len(missing):
        raise ValueError(f"no image to train on: {', '.join(missing)}")
    return TrainableClassifier(config, len(samples.class_names), device)


def training_schedule(config: TrainingConfig) -> Schedule:
    """Return the epochs of a recipe and their learning rates."""
    return Schedule(config.epochs, config.lr, config.lr_drop_epochs, config.seed)


def _optimizer(config: TrainingConfig, network: TrainableClassifier) -> torch.optim.SGD:
    groups = [{"params": list(network.parameters()), "factor": 1.0}]
    return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)


def _training_key(config: ClassifierConfig, samples: LabeledImages, network: TrainableClassifier) -> str:
    """Return a fingerprint of everything that changes the result of a training."""
    settings: dict[str, object] = {
        "config": config.model_dump(mode="json"),
        "data": samples_digest(samples),
        "start": network_digest(network),
        "format": _CHECKPOINT_FORMAT,
    }
    if isinstance(network.convolutions, TorchBackbone):
        settings |= {"digest": network.convolutions.digest, "precision": network.convolutions.precision}
    return fingerprint(settings)


@dataclass
class _Epochs:
    """The batches of each epoch, and their losses; the next batch is loaded while one is trained on."""

    config: ClassifierConfig
    images: ResizedImages
    progress: Progress
    losses: list[float] = field(default_factory=list)

    def round(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch; each seeds torch's generator for the random numbers inside the network."""
        training, title = self.config.training, f"epoch {number + 1} of {self.config.training.epochs}"
        if self.losses:
            title += f", loss before {np.mean(self.losses):.3f}"
        self.losses.clear()
        order = epoch_order(len(self.images), training.seed, number)
        batches = list(enumerate(split_batches(order, training.batch_size)))[first:]
        with ThreadPoolExecutor(1) as pool:
            loaded = prefetch(pool, partial(self._load, number), [rows for _, rows in batches])
            for index, _ in self.progress(batches, title):
                torch.manual_seed(batch_seed(training.seed, number, index))
                yield next(loaded)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the `classification_loss`. Raises ValueError if it is not finite."""
        loss = classification_loss(logits, targets, self.images.samples.exclusive)
        if not math.isfinite(value := loss.item()):
            raise ValueError("training diverged: its loss is not finite; lower training.lr")
        self.losses.append(value)
        return loss

    def _load(self, epoch: int, rows: NDArray[np.int64]) -> Batch:
        seed, crop = self.config.training.seed, self.config.images.crop
        size = epoch_size(self.config.images, seed, epoch)
        images = [training_image(self.images[i], crop, size, seed, epoch, i) for i in rows.tolist()]
        return Batch(np.stack(images), torch.from_numpy(self.images.samples.targets[rows]), len(rows))


def split_batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Return batches of ``size`` indices, and a last one of the rest; a single index joins the batch before it.

    Batch normalization has no statistics of a single value.
    """
    starts = range(size, len(order) - (size > 1), size)
    return np.split(order, starts)


def prefetch(pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield results in order; the next one is computed while the last is used."""
    upcoming = None
    for item in items:
        future = pool.submit(function, item)
        if upcoming is not None:
            yield upcoming.result()
        upcoming = future
    if upcoming is not None:
        yield upcoming.result()


def classification_loss(logits: torch.Tensor, targets: torch.Tensor, exclusive: bool) -> torch.Tensor:
    """Return the mean over samples of the softmax cross-entropy, or of the sum of the classes' logistic losses.

    logits: (N, K); targets: (N, K) of 1, -1, or 0 for a class that is ignored. Returns a scalar.
    """
    targets = targets.to(logits.device)
    if exclusive:
        return F.cross_entropy(logits, targets.argmax(1))
    losses = F.softplus(-targets * logits) * (targets != 0)
    return losses.sum(1).mean()
