"""A recipe's network learned together with the layers after the pooling: `end_to_end`, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from detector.backbones.loading import Network, load_network
from detector.backbones.splitting import split_network
from detector.backbones.torch_backbone import load_backbone
from detector.backbones.truncation import network_digest
from detector.boxes import Boxes
from detector.build import build_cache
from detector.config.detector import Config
from detector.datasets.dataset import Annotation
from detector.features.cache import fill_proposals
from detector.runtime.progress import Progress, without_progress
from detector.training.calibration import shown_to_none
from detector.training.checkpoints import UNTOLD, data_digest, state_file
from detector.training.end_to_end.layers import joint_tensors
from detector.training.end_to_end.region_network import RegionNetwork
from detector.training.end_to_end.trainable_layers import learning_layers
from detector.training.end_to_end.training import JointSettings, JointTraining
from detector.training.training_set import TrainingSet


def train_jointly(
    config: Config,
    annotations: Sequence[Annotation],
    n_classes: int,
    first: str,
    directory: Path,
    progress: Progress = without_progress,
    precomputed: Mapping[str, Boxes] | None = None,
) -> dict[str, torch.Tensor]:
    """Train the layers of a recipe's network from ``first`` on, and fc6, fc7, classes and moves; see `joint_tensors`.

    Images that the calibration will need, those of `shown_to_none`, are not learned from.

    Proposals and the state of the training are kept under ``directory``: killed and called again, it goes on to the
    same bits. Computed in float32, but for layers that do not learn. Raises ValueError for a layer that learning cannot
    begin at and for features that are no plain maxima.
    """
    features = config.features
    network = load_network(features.backbone, features.stage, features.weights)
    stage, last = split_network(network, first, features.weights, same_cells=False)
    # of proposals alone; what learns is computed by torch
    in_torch = config.model_copy(update={"features": features.updated({"runtime": "torch"})})
    cache = build_cache(in_torch, directory, "cpu", precomputed)
    images = TrainingSet(annotations, n_classes, cache, difficult=config.svm.difficult)
    if config.calibration.enabled:
        # of all images, also of those that cannot be read: what can be may change before they calibrate
        held_out = shown_to_none(images, config.fine_tuning)
        annotations = [each for each in annotations if each.image_id not in held_out]
    images = replace(images, annotations=fill_proposals(cache, annotations, progress))
    before = load_backbone(features.backbone, stage, features.weights, "cpu", features.precision)
    settings = joint_settings(config)
    changes = {
        "features": features.model_dump(mode="json", exclude=UNTOLD),
        "settings": vars(settings),
        "width": config.fine_tuning.width,
        "difficult": config.svm.difficult,
        "first": first,
        "network": network_digest(network.module.network),
    }
    regions = RegionNetwork(
        learning_layers(last),
        features.levels,
        network.module.channels,
        config.fine_tuning.width,
        n_classes,
        settings.seed,
    )
    checkpoint = state_file("joint", changes, data_digest(images.annotations, cache), cache)
    JointTraining(regions, before, network.module.geometry, images, settings, checkpoint).run(
        progress, f"learning from {first} on"
    )
    return joint_tensors(_learned(network, last), regions.layers())


def joint_settings(config: Config) -> JointSettings:
    """The constants that a recipe gives a joint training; what it shares with fine-tuning is said there."""
    shared = config.fine_tuning.model_dump(include={"foreground_fraction", "min_iou", "dropout", "flips", "seed"})
    return JointSettings(**config.end_to_end.model_dump(exclude={"enabled"}), **shared)


def _learned(network: Network, last: nn.Module) -> dict[str, torch.Tensor]:
    own = {id(tensor) for tensor in last.parameters()}
    return {name: each for name, each in network.module.network.named_parameters() if id(each) in own}
