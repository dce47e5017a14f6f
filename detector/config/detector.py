"""Recipes of detectors: the sections and keys of the YAML files in configs/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from detector.config.recipes import Count, Fraction, Level, Pixels, Positive, Section, Seed, parse_recipe, read_recipe
from detector.features.mapping import PAPER_MARGIN, PAPER_TARGET
from detector.features.pooling import PAPER_LEVELS
from detector.model_file import IMAGENET, trained_stage
from detector.runtime.files import digest
from detector.runtime.openvino import Precision, Runtime
from detector.tiles import Tiles, parse_tiles


class ProposalConfig(Section):
    """Source of the proposals: selective search (paper, section 4.1), our own or another implementation."""

    source: Literal["selective_search", "selectivesearch", "opencv"] = "selective_search"
    mode: Literal["single", "fast", "quality"] = "fast"
    ranking: Literal["random", "diverse"] = "diverse"
    max_boxes: Count = 2000
    min_side: Annotated[int, Field(ge=0)] = 20
    max_pixels: Count | None = 1_000_000
    """Larger images are scaled down to this many pixels for the search; null: full size, as in the paper."""
    zoom: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Sides of the copy that is searched, over those of the image."""
    seed: Seed = 0

    @property
    def cache_settings(self) -> dict[str, Any]:
        """All settings that change the boxes, by which a cache names them.

        ``zoom`` is left out where it is 1, as in caches from before there was one.
        """
        return self.model_dump(exclude={"zoom"} if self.zoom == 1 else None)


class FeatureConfig(Section):
    """Network, scales, mapping and pyramid (paper, sections 2.3 and 4.1, appendix A)."""

    backbone: str = "efficientnet_lite0"
    stage: str | None = None
    weights: str | None = None
    precision: Precision = "auto"
    runtime: Runtime = "auto"
    """Library that runs the network; auto: OpenVINO if it is installed and supports the network, else torch."""
    short_sides: Annotated[tuple[Pixels, ...], Field(min_length=1, strict=False)] = (688,)
    levels: Annotated[tuple[Level, ...], Field(min_length=1, strict=False)] = PAPER_LEVELS
    margin: float = PAPER_MARGIN
    target: Positive = PAPER_TARGET
    scale_rule: Literal["area", "side"] = "area"
    power: Annotated[float, Field(gt=0, le=1)] = 1.0

    def updated(self, given: Mapping[str, Any]) -> FeatureConfig:
        """Return a copy with the ``given`` values; None keeps a key as it is."""
        return self.model_copy(update={name: value for name, value in given.items() if value is not None})


FEW_IMAGES = 100
"""Up to this many training images, mirrored copies improve the SVMs (docs/training.md)."""


class AdaptationConfig(Section):
    """Proposals and scales chosen for the training data, in place of the recipe's; not in the paper."""

    enabled: bool = False
    """Choose proposals.mode, min_side and max_boxes by recall, and features.short_sides by the sizes of the objects."""


class FineTuningConfig(Section):
    """Fully connected layers between pooled features and scores (paper, section 4.1; constants of the release)."""

    enabled: bool = False
    layer: Literal["pooled", "fc6", "fc7"] = "fc7"
    """Layer whose values, after ReLU, are the features of the SVMs; pooled: they read what fc6 reads."""
    head: Literal["svm", "softmax"] = "svm"
    """Scorer of the boxes: linear SVMs, or fc8 itself."""
    initial: str | None = None
    """File of fc6 and fc7 to start from: a model, or an ImageNet classifier with torchvision's names."""
    width: Annotated[Count, Field(le=65536)] = 512
    iterations: Count = 6000
    lr: Positive = 0.01
    lr_steps: Annotated[tuple[Fraction, ...], Field(strict=False)] = (0.6, 0.85)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    dropout: Fraction = 0.5
    batch_size: Count = 128
    foreground_fraction: Fraction = 0.25
    min_iou: Fraction = 0.5
    background_iou: Annotated[tuple[Fraction, Fraction], Field(strict=False)] = (0.1, 0.5)
    flips: bool = False
    """Also train on mirrored images, whose maps are cached like the others."""
    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Fraction of the images to select the best snapshot on."""
    seed: Seed = 3

    @model_validator(mode="after")
    def _check(self) -> FineTuningConfig:
        if self.head == "softmax" and self.layer != "fc7":
            raise ValueError("head: softmax needs layer: fc7, the input of fc8")
        if self.background_iou[0] >= self.background_iou[1] or self.background_iou[1] > self.min_iou:
            raise ValueError(f"background_iou must ascend and end at or below min_iou {self.min_iou:g}")
        return self


Sides = Annotated[tuple[Pixels, Pixels], Field(strict=False)]
_EPOCHS, _STEPS = 5, (120, 3000)


class EndToEndConfig(Section):
    """Backbone, fc6, fc7, softmax and box regression trained together (Fast R-CNN, online hard example mining).

    ``fine_tuning`` holds what the fc layers share with it: width, dropout, sampling of boxes, flips, seed.
    """

    enabled: bool = False
    first_layer: str = "blocks.2"
    """First layer of the backbone to train; the layers before it stay frozen."""
    steps: Count | None = 3000
    """null: by the number of images, see `n_steps`."""
    images_per_step: Count = 4
    min_sizes_start: Sides = (256, 416)
    """Range of the shorter side of images at the first step, in pixels."""
    min_sizes_end: Sides = (400, 608)
    rois_per_image: Count = 192
    hard_examples: Count = 64
    lr: Positive = 8e-4
    network_lr: Positive = 2.5e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup_steps: Annotated[int, Field(ge=0)] = 150
    frozen_steps: Annotated[int, Field(ge=0)] = 0
    """First steps that train the new layers alone, whose random weights would spoil those of the backbone."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay per step of the exponential moving average of the weights, which is the result."""
    color_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.15
    second_min_iou: Annotated[float, Field(gt=0, le=1)] | None = None
    """Minimum IoU of refined boxes that train second regressors (Cascade R-CNN); null: there are none."""

    @model_validator(mode="after")
    def _check(self) -> EndToEndConfig:
        for low, high in (self.min_sizes_start, self.min_sizes_end):
            if low > high:
                raise ValueError(f"min_sizes_start and min_sizes_end must ascend, but are {low}, {high}")
        if self.hard_examples > self.rois_per_image:
            raise ValueError(
                f"hard_examples must be at most rois_per_image {self.rois_per_image}, but is {self.hard_examples}"
            )
        return self

    def n_steps(self, n_images: int) -> int:
        """Return the number of steps to train on this many images: five epochs within limits, unless it is given."""
        if self.steps is not None:
            return self.steps
        return min(max(_STEPS[0], round(_EPOCHS * n_images / self.images_per_step)), _STEPS[1])


class SVMConfig(Section):
    """Linear SVMs and hard-negative mining (paper, section 4.1; constants of the release)."""

    solver: Literal["dual", "liblinear"] = "dual"
    loss: Literal["hinge", "squared_hinge"] = "hinge"
    C: Positive = 1e-3
    positive_weight: Positive = 2.0
    bias_multiplier: Positive = 10.0
    mean_norm: Positive = 20.0
    center: bool = False
    max_negative_iou: Fraction = 0.3
    add_above: float = -1.0001
    evict_below: float = -1.2
    max_negatives_per_image: Count = 100
    max_samples: Count | None = None
    """Capacity of the sample buffer, which all classes share; null: 2.5 GB."""
    difficult: bool = True
    flips: bool | None = False
    """Also train on mirrored images, whose maps are cached like the others; null: for up to `FEW_IMAGES` images."""
    background: bool = False
    """Also train on photographs of other subjects that come with the package, if it has features of the backbone."""
    seed: Seed = 3


class RegressionConfig(Section):
    """Bounding-box regression (paper, section 4.1; constants of the release)."""

    enabled: bool = True
    fit: Literal["ridge", "end_to_end"] = "ridge"
    """Ridge regression, as in the paper, or the regressors of the end-to-end training."""
    features: Literal["pooled", "layer"] = "pooled"
    """Pooled features, as in the paper, or those of the fine-tuned layer, like the SVMs."""
    min_iou: Fraction = 0.5
    regularization: Positive = 4000.0
    max_samples: Count = 8000

    @model_validator(mode="after")
    def _check(self) -> RegressionConfig:
        if self.fit == "end_to_end" and self.features != "layer":
            raise ValueError("fit: end_to_end needs features: layer, because its regressors read fc7")
        return self


class CalibrationConfig(Section):
    """Probabilities and thresholds, fitted on held-out images; not in the paper."""

    enabled: bool = True
    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    """Fraction of the images to hold out; for fc layers on frozen maps, fine_tuning.held_out counts instead."""
    cross_validate_below: Annotated[int, Field(ge=0)] = 500
    """Below this many images, cross-validate over all parts; otherwise hold out one part."""
    seed: Seed = 3


class ProposalFilterConfig(Section):
    """Cheap first scores of the proposals on coarse levels, which select those to score fully; not in the paper."""

    enabled: bool = False
    levels: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] = (3, 2, 1)
    images: Count = 500
    """Number of random images to train on."""
    boxes: Count = 128
    """Number of boxes to sample per image."""
    regularization: Positive = 0.01
    """Fraction of the mean variance of the features."""
    seed: Seed = 3


class DetectionConfig(Section):
    """Selection of the scored boxes of an image (release: spp_test)."""

    min_score: float = -1.5
    max_boxes: Count | None = None
    """Maximum number of scored proposals: the best of the proposal filter or, without one, the first; null: all."""
    nms_iou: Fraction = 0.3
    max_detections: Count = 100
    box_refinements: Annotated[int, Field(ge=0, le=100)] = 0
    """Rounds of `refinement.refine`; 0 is the release's order: suppress, refine once, suppress again."""
    vote_iou: Annotated[float, Field(gt=0, le=1)] = 0.45
    """Minimum IoU of the boxes that `refinement.vote` averages."""
    tiles: Annotated[int | str, AfterValidator(parse_tiles)] | None = None
    """Overlapping tiles, in training and detection, next to the whole image: see `tiles.tile_windows`; null: none."""


class Config(Section):
    """Recipe of a detector. Every key has a default; unknown keys are errors."""

    proposals: ProposalConfig = ProposalConfig()
    features: FeatureConfig = FeatureConfig()
    adaptation: AdaptationConfig = AdaptationConfig()
    fine_tuning: FineTuningConfig = FineTuningConfig()
    end_to_end: EndToEndConfig = EndToEndConfig()
    svm: SVMConfig = SVMConfig()
    regression: RegressionConfig = RegressionConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    proposal_filter: ProposalFilterConfig = ProposalFilterConfig()
    detection: DetectionConfig = DetectionConfig()

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.end_to_end.enabled and not self.fine_tuning.enabled:
            raise ValueError("end_to_end: {enabled: true} needs fine_tuning: {enabled: true}, whose layers it trains")
        if self.fine_tuning.enabled and self.fine_tuning.layer == "pooled" and not self.end_to_end.enabled:
            raise ValueError("fine_tuning.layer: pooled needs end_to_end: {enabled: true}, or no layer is read")
        if self.end_to_end.enabled and self.features.power != 1:
            raise ValueError(f"end_to_end needs features.power 1, but it is {self.features.power:g}")
        if self.regression.fit == "end_to_end" and not (self.end_to_end.enabled and self.fine_tuning.layer == "fc7"):
            raise ValueError("regression.fit: end_to_end needs end_to_end: {enabled: true} and fine_tuning.layer: fc7")
        if self.end_to_end.second_min_iou is not None and self.regression.fit != "end_to_end":
            raise ValueError("end_to_end.second_min_iou needs regression.fit: end_to_end, which keeps its regressors")
        return self

    @property
    def caches_mirrored_maps(self) -> bool:
        """True if training reads cached feature maps of mirrored images (end-to-end training computes its own)."""
        tuning = self.fine_tuning
        trains_svms = not (tuning.enabled and tuning.head == "softmax")
        fine_tunes = tuning.enabled and not self.end_to_end.enabled
        return (fine_tunes and tuning.flips) or (trains_svms and bool(self.svm.flips))

    def for_images(self, n_images: int) -> Config:
        """Return the recipe with the defaults that depend on the number of training images filled in."""
        if self.svm.flips is not None:
            return self
        return self.model_copy(update={"svm": self.svm.model_copy(update={"flips": n_images <= FEW_IMAGES})})

    def with_tiles(self, tiles: Tiles | None) -> Config:
        """Return the recipe with other tiles; see `parse_tiles`."""
        parsed = None if tiles is None else parse_tiles(tiles)
        return self.model_copy(update={"detection": self.detection.model_copy(update={"tiles": parsed})})

    def files(self) -> dict[str, str]:
        """Return the SHA-256, in hexadecimal, of each file that the recipe names, by path."""
        named = (self.features.weights, self.fine_tuning.initial)
        paths = [Path(name) for name in named if name is not None and Path(name).is_file()]
        return {str(path): digest([path.read_bytes()]) for path in paths}


def load_config(
    recipe: str | Path,
    weights: str | Path | None = None,
    runtime: Runtime | None = None,
    tiles: Tiles | None = None,
) -> Config:
    """Read a detector recipe, see `read_recipe`; ``weights``, ``runtime`` and ``tiles``, if given, override its own.

    Weights of a detector's file, or of the package, set the stage of a recipe without one; "imagenet" stands for the
    network's own, published ones.
    """
    config = read_recipe(recipe, Config)
    features = config.features.updated({"weights": None if weights is None else str(weights), "runtime": runtime})
    if features.weights == IMAGENET:
        features = features.model_copy(update={"weights": None})
    if features.stage is None and features.weights is not None:
        features = features.updated({"stage": trained_stage(features.weights)})
    config = config.model_copy(update={"features": features})
    return config if tiles is None else config.with_tiles(tiles)


def parse_config(content: Any, source: str) -> Config:
    """Return the checked ``content`` of a detector recipe, see `parse_recipe`."""
    return parse_recipe(content, Config, source)
