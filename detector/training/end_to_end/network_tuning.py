"""The last convolutions of a network, fine-tuned on boxes through the pooling: what the paper leaves to its successor.

The paper freezes all convolutions; Fast R-CNN (Girshick, ICCV 2015) takes gradients through the pooling, two images
a batch. Here the layers before those that learn are run once, and their maps are cached.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.backbones.loading import Network, load_network
from detector.backbones.splitting import split_network
from detector.backbones.truncation import network_digest
from detector.boxes import Boxes
from detector.build import build_cache
from detector.config.detector import Config
from detector.datasets.dataset import Annotation
from detector.features.cache import FeatureCache, fill_cache
from detector.features.pooling import n_bins
from detector.features.pyramid_layer import pool_regions
from detector.runtime.progress import Progress, without_progress
from detector.training.checkpoints import UNTOLD, Checkpoint, data_digest, state_file
from detector.training.end_to_end.fc_layers import (
    VALIDATION_BOXES,
    FineTuningSettings,
    build_layers,
    fine_tuning_settings,
)
from detector.training.end_to_end.train import train_jointly
from detector.training.gradient_descent import Batch, GradientDescent, Validation, parameter_groups, sgd, softmax_loss
from detector.training.sampling import RandomBoxes, validation_split
from detector.training.training_set import TrainingSet

Regions = tuple[torch.Tensor, NDArray[np.int64]]
"""A map ``(1, C, h, w)`` of the layers before those that learn, float16, and cells ``(n, 4)``."""

_LEARNING_RATE = 0.1
"""Of the convolutions, of that of the layers after them, which begin with random numbers."""
_WEIGHT_DECAY = 5e-4
_VALIDATION_IMAGES = 64
_SCALE_BATCHES = 25


def tune_network(
    config: Config,
    annotations: Sequence[Annotation],
    n_classes: int,
    first: str,
    directory: Path,
    device: str = "cpu",
    progress: Progress = without_progress,
    precomputed: Mapping[str, Boxes] | None = None,
) -> dict[str, torch.Tensor]:
    """Fine-tune the layers of a recipe's network from ``first`` on, on boxes; their tensors by name.

    fc6, fc7 and fc8 learn with them, by the constants of the recipe's ``fine_tuning``, and are forgotten. Maps and the
    state of the training are kept under ``directory``: killed and called again, it goes on to the same bits. With
    ``end_to_end`` in the recipe, it is that (see `joint`), and what was learned of these layers is kept. Raises
    ValueError for a layer that learning cannot begin at and for features that are no plain maxima.
    """
    features, tuning = config.features, config.fine_tuning
    if features.power != 1:
        raise ValueError(f"features.power must be 1 to learn through the pooling, but is {features.power:g}")
    if features.tuned:
        raise ValueError(f"{features.tuned}: layers that were fine-tuned once are not fine-tuned again")
    if config.end_to_end.enabled:
        if device != "cpu":
            raise ValueError(f"joint training runs on the processor, but the device is {device!r}")
        return train_jointly(config, annotations, n_classes, first, directory, progress, precomputed)
    network = load_network(features.backbone, features.stage, features.weights)
    stage, last = split_network(network, first, features.weights)
    before = config.model_copy(update={"features": features.model_copy(update={"stage": stage})})
    cache = build_cache(before, directory, device, precomputed)
    annotations = fill_cache(cache, annotations, progress)
    if tuning.flips:
        annotations = fill_cache(cache, annotations, progress, mirrored=True)
    images = TrainingSet(annotations, n_classes, cache, difficult=config.svm.difficult)
    settings = fine_tuning_settings(tuning)
    learners, validation = (replace(each, one_scale=True) for each in validation_split(images, tuning))
    batches = _RegionBatches(learners, validation, settings)
    layers = build_layers(network.module.channels * n_bins(features.levels), n_classes, settings)
    regions = _ScoredRegions(last, layers, features.levels)
    regions.measure(batch.inputs for batch in islice(batches.round(0), _SCALE_BATCHES))
    groups = parameter_groups(layers, settings.weight_decay)
    groups += parameter_groups(last, _WEIGHT_DECAY, _LEARNING_RATE)
    descent = GradientDescent(
        regions.to(device),
        sgd(groups, settings.momentum, device),
        batches,
        settings.schedule(batches.per_round),
        softmax_loss,
        Checkpoint(_checkpoint_file(config, first, network, annotations, cache)),
        Validation(batches.validation, settings.rounds_per_snapshot),
        cache.encoder.backbone.precision,
        device,
    )
    regions.load_state_dict(descent.run(progress, f"fine-tuning from {first} on, batches x {batches.per_round}"))
    learned = {id(tensor) for tensor in last.parameters() if tensor.requires_grad}
    own = network.module.network.named_parameters()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in own if id(tensor) in learned}


def _checkpoint_file(
    config: Config, first: str, network: Network, annotations: Sequence[Annotation], cache: FeatureCache
) -> Path:
    changes = {
        "features": config.features.model_dump(mode="json", exclude=UNTOLD),
        "fine_tuning": config.fine_tuning.model_dump(
            mode="json", exclude={"layer", "beside_pooled", "head", "initial"}
        ),
        "difficult": config.svm.difficult,
        "first": first,
        "network": network_digest(network.module.network),
    }
    return state_file("network", changes, data_digest(annotations, cache), cache)


class _ScoredRegions(nn.Module):
    """Scores ``(n, K + 1)`` of all regions of a batch: the last convolutions, pooling, fully connected layers."""

    def __init__(self, last: nn.Module, layers: nn.Module, levels: Sequence[int]) -> None:
        super().__init__()
        self.last, self.layers, self.levels = last, layers, levels
        self.register_buffer("mean", torch.zeros(()), persistent=False)
        self.register_buffer("scale", torch.ones(()), persistent=False)
        for module in last.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)

    def train(self, mode: bool = True) -> _ScoredRegions:
        super().train(mode)
        self.last.eval()  # batch normalization keeps its statistics: those of two images are none
        return self

    def forward(self, regions: Sequence[Regions]) -> torch.Tensor:
        features = (self._pool(regions) - self.get_buffer("mean")) * self.get_buffer("scale")
        scores: torch.Tensor = self.layers(features)
        return scores

    def _pool(self, regions: Sequence[Regions]) -> torch.Tensor:
        device = self.get_buffer("mean").device
        pooled = []
        for maps, cells in regions:
            last = self.last(maps.to(device, torch.float32))[0]
            pooled.append(pool_regions(last.float(), cells, self.levels))
        return torch.cat(pooled)

    def measure(self, batches: Iterable[Sequence[Regions]]) -> None:
        """Center features and give them values of about 1, as of these regions: what random layers begin with best."""
        with torch.no_grad():
            features = torch.cat([self._pool(regions) for regions in batches])
        self.mean = features.mean(0)
        self.scale = features.shape[1] ** 0.5 / (features - self.mean).norm(dim=1).mean()


@dataclass(frozen=True)
class _RegionBatches:
    """Batches of the boxes of a few whole images each."""

    images: RandomBoxes
    validation_images: RandomBoxes
    settings: FineTuningSettings

    @property
    def per_batch(self) -> int:
        """Images of a batch."""
        return max(1, self.settings.batch_size // self.settings.boxes_per_image)

    @property
    def per_round(self) -> int:
        """Batches of a round."""
        return -(-min(self.settings.images_per_round, len(self.images)) // self.per_batch)

    def round(self, number: int, first: int = 0) -> Iterator[Batch]:
        return islice(self._round(number), first, None)

    def _round(self, number: int) -> Iterator[Batch]:
        chosen, random = self.settings.draw(len(self.images), number)
        for start in range(0, len(chosen), self.per_batch):
            part = chosen[start : start + self.per_batch]
            batch = _batch(self.images, part, random, self.settings.boxes_per_image)
            if batch.n_samples:  # an image may be too small for any proposal
                yield batch

    def validation(self) -> list[Batch]:
        """The same boxes at every call."""
        random = np.random.default_rng(self.settings.seed)
        chosen = range(min(_VALIDATION_IMAGES, len(self.validation_images)))
        batches = (_batch(self.validation_images, [index], random, VALIDATION_BOXES) for index in chosen)
        return [batch for batch in batches if batch.n_samples]


def _batch(images: RandomBoxes, chosen: Iterable[int], random: np.random.Generator, n_boxes: int) -> Batch:
    regions: list[Regions] = []
    labels = [np.zeros(0, np.int64)]
    for index in chosen:
        maps, drawn, own = images.draw(int(index), n_boxes, random)
        if len(own):
            (scale,) = np.unique(drawn[:, 0])
            # channels last, as it lies there
            regions.append((torch.from_numpy(maps.maps[scale]).permute(2, 0, 1)[None], drawn[:, 1:]))
            labels.append(own)
    joined = torch.from_numpy(np.concatenate(labels))
    return Batch(regions, joined, len(joined))
