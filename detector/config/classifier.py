"""Recipes of classifiers: the sections and keys of their YAML files."""

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
    """See `load_network`; "random" trains all layers from scratch, on pixels scaled as ImageNet's."""
    frozen: bool = True
    """Keep the weights of the convolutions; false trains all layers."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of frozen convolutions; trained ones are computed in float32."""
    pyramid: Annotated[tuple[Level, ...], Field(min_length=1, strict=False)] | None = PAPER_LEVELS
    """Levels; null flattens the map, so that the network takes images of one size only."""
    feature_norm: Positive | None = None
    """Euclidean norm to scale pooled features to; null leaves them unchanged."""
    hidden: Annotated[tuple[Width, ...], Field(strict=False)] = ()
    """Widths of the fully connected layers before the last."""
    dropout: Share = 0.5
    """Dropout of the hidden layers."""

    @model_validator(mode="after")
    def _check(self) -> NetworkConfig:
        if self.frozen and self.weights == "random":
            raise ValueError("weights: random needs frozen: false")
        return self


class ImageConfig(Section):
    """Sizes and crops of the images (paper, section 3.1)."""

    short_side: Side = 256
    """Pixels of the shorter side before crops are taken."""
    crop: Side = 224
    """Pixels of a crop's side."""
    sizes: Annotated[tuple[Side, ...], Field(min_length=1, strict=False)] = (224,)
    """Sides in pixels that crops are resized to in training."""
    size_rule: Literal["alternate", "random"] = "alternate"
    """Size of an epoch: the next one of `sizes`, or a random one from the first to the second."""

    @model_validator(mode="after")
    def _check(self) -> ImageConfig:
        if self.crop > self.short_side:
            raise ValueError(f"crop must be at most short_side {self.short_side}")
        if self.size_rule == "random" and not (len(self.sizes) == 2 and self.sizes[0] < self.sizes[1]):
            raise ValueError("size_rule: random needs two ascending sizes, [min, max]")
        return self


class TrainingConfig(Section):
    """Stochastic gradient descent (paper, section 3.1)."""

    epochs: Count = 70
    batch_size: Count = 128
    lr: Positive = 0.01
    lr_drop_epochs: Annotated[tuple[Count, ...], Field(strict=False)] = ()
    """Epochs after which the learning rate is divided by 10."""
    momentum: Share = 0.9
    weight_decay: NonNegative = 5e-4
    seed: Seed = 0


class ClassifierConfig(Section):
    """Recipe of a classifier. Every key has a default; unknown keys are errors."""

    network: NetworkConfig = NetworkConfig()
    images: ImageConfig = ImageConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _check(self) -> ClassifierConfig:
        if self.network.pyramid is None and self.images.sizes != (self.images.crop,):
            raise ValueError(f"without a pyramid, images.sizes must be [{self.images.crop}], the crop's")
        return self


def load_classifier_config(path: str | Path, weights: str | Path | None = None) -> ClassifierConfig:
    """Read a classifier recipe, see `read_recipe`; ``weights``, if given, override its backbone's."""
    config = read_recipe(path, ClassifierConfig)
    if weights is None:
        return config
    content = config.model_dump(mode="json")
    content["network"]["weights"] = str(weights)
    return parse_classifier_config(content, str(path))


def parse_classifier_config(content: Any, source: str) -> ClassifierConfig:
    """Return the checked ``content`` of a classifier recipe, see `parse_recipe`."""
    return parse_recipe(content, ClassifierConfig, source)
