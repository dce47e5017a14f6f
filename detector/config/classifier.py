"""Recipes of classifiers: what a YAML file may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from detector.config.recipes import Count, Level, Positive, Section, Seed, Side, Width, parse_recipe, read_recipe
from detector.features.pooling import PAPER_LEVELS

NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class NetworkConfig(Section):
    """Convolutions, pyramid and fully connected layers (paper, sections 2.2 and 3.1)."""

    backbone: str = "efficientnet_lite0"
    stage: str | None = None
    weights: str | None = None
    """As of `load_network`; "random": all layers are learned from scratch, on pixels scaled as ImageNet's."""
    frozen: bool = True
    """Whether the convolutions keep their weights; else all layers are trained."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of frozen convolutions; others are computed in float32."""
    pyramid: Annotated[tuple[Level, ...], Field(min_length=1, strict=False)] | None = PAPER_LEVELS
    """Levels; null: the map is flattened, so that the network takes images of one size alone."""
    feature_norm: Positive | None = None
    """Length to which pooled features are scaled; null: they are left as they are."""
    hidden: Annotated[tuple[Width, ...], Field(strict=False)] = ()
    """Widths of the fully connected layers before the last."""
    dropout: Share = 0.5
    """Of the hidden layers."""

    @model_validator(mode="after")
    def _check(self) -> NetworkConfig:
        if self.frozen and self.weights == "random":
            raise ValueError("random weights must not be frozen: say frozen: false")
        return self


class ImageConfig(Section):
    """What the network sees of an image (paper, section 3.1)."""

    short_side: Side = 256
    """Pixels of the shorter side before crops are taken."""
    crop: Side = 224
    """Pixels of a crop's side."""
    sizes: Annotated[tuple[Side, ...], Field(min_length=1, strict=False)] = (224,)
    """Pixels to whose side crops are resized in training."""
    size_rule: Literal["alternate", "random"] = "alternate"
    """One size an epoch: the next one of `sizes`, or any from the first to the second."""

    @model_validator(mode="after")
    def _check(self) -> ImageConfig:
        if self.crop > self.short_side:
            raise ValueError(f"crop must be at most short_side {self.short_side}")
        if self.size_rule == "random" and not (len(self.sizes) == 2 and self.sizes[0] < self.sizes[1]):
            raise ValueError("random sizes are drawn from [least, greatest], so sizes must be two that ascend")
        return self


class TrainingConfig(Section):
    """Stochastic gradient descent (paper, section 3.1)."""

    epochs: Count = 70
    batch: Count = 128
    learning_rate: Positive = 0.01
    drops: Annotated[tuple[Count, ...], Field(strict=False)] = ()
    """Epochs after which the learning rate is divided by 10."""
    momentum: Share = 0.9
    weight_decay: NonNegative = 5e-4
    seed: Seed = 0


class ClassifierConfig(Section):
    """A whole recipe. Every section and every key has a default; unknown keys are errors."""

    network: NetworkConfig = NetworkConfig()
    pictures: ImageConfig = ImageConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _check(self) -> ClassifierConfig:
        if self.network.pyramid is None and self.pictures.sizes != (self.pictures.crop,):
            raise ValueError(f"without a pyramid, pictures.sizes must be [{self.pictures.crop}], the crop's")
        return self


def load_classifier_config(path: str | Path, weights: str | Path | None = None) -> ClassifierConfig:
    """`read_recipe` of a classifier; ``weights``, if given, take the place of its backbone's."""
    config = read_recipe(path, ClassifierConfig)
    if weights is None:
        return config
    content = config.model_dump(mode="json")
    content["network"]["weights"] = str(weights)
    return parse_classifier_config(content, str(path))


def parse_classifier_config(content: Any, source: str) -> ClassifierConfig:
    """`parse_recipe` of a classifier."""
    return parse_recipe(content, ClassifierConfig, source)
