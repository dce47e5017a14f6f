"""Features scaled to one mean norm, so that an SVM's C found for one network carries over to others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from detector.features.encoder import Features
from detector.training.training_set import TrainingSet


def scaled(
    images: TrainingSet, mean_norm: float, centre: bool, seed: int, max_images: int = 200, max_boxes: int = 200
) -> TrainingSet:
    """``images`` with features scaled to a mean L2 norm, if asked to after their mean is taken off.

    Both are measured on random boxes of random images, with the same draw (release: spp_feature_stats). Features
    that stand side by side get equal shares of the norm.
    """
    if centre:
        drawn = _random_features(images, seed, max_images, max_boxes)
        means = [each.mean(0, dtype=np.float64) for each in drawn if len(each)]
        images = replace(images, mean=np.mean(means, axis=0).astype(np.float32))
    parts = [slice(0, images.n_features)] if images.layers is None else images.layers.parts
    norms: list[list[float]] = [[] for _ in parts]
    for features in _random_features(images, seed, max_images, max_boxes):
        for part, own in zip(parts, norms, strict=True):
            own += np.linalg.norm(features[:, part], axis=1).tolist()
    scale = np.empty(images.n_features, np.float32)
    for part, own in zip(parts, norms, strict=True):
        scale[part] = mean_norm / np.sqrt(len(parts)) / np.mean(own)
    return replace(images, scale=scale)


def _random_features(images: TrainingSet, seed: int, max_images: int, max_boxes: int) -> Iterator[Features]:
    rng = np.random.default_rng(seed)
    for index in rng.permutation(len(images))[:max_images]:
        samples = images[int(index)]
        yield samples.features(rng.permutation(len(samples.targets))[:max_boxes])
