"""Recipes of detectors: what a YAML file in configs/ may say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from detector.config.recipes import Count, Fraction, Level, Pixels, Positive, Section, Seed, parse_recipe, read_recipe
from detector.features.mapping import PAPER_MARGIN, PAPER_TARGET
from detector.features.pooling import PAPER_LEVELS
from detector.runtime.files import digest
from detector.runtime.openvino import Precision, Runtime


class ProposalConfig(Section):
    """Where boxes come from: selective search (paper, section 4.1), ours or another implementation's."""

    source: Literal["selective_search", "selectivesearch", "opencv"] = "selective_search"
    mode: Literal["single", "fast", "quality"] = "fast"
    ranking: Literal["random", "diverse"] = "diverse"
    max_boxes: Count = 2000
    min_side: Annotated[int, Field(ge=0)] = 20
    max_pixels: Count | None = 1_000_000
    """Larger images are searched on a copy of so many pixels; null: at full size, as in the paper."""
    seed: Seed = 0


class FeatureConfig(Section):
    """Network, scales, mapping and pyramid (paper, sections 2.3 and 4.1, appendix A)."""

    backbone: str = "efficientnet_lite0"
    stage: str | None = None
    weights: str | None = None
    tuned: str | None = None
    """A file of tools/tune_network.py: layers that take the place of some of the backbone's."""
    precision: Precision = "auto"
    runtime: Runtime = "auto"
    """What computes the network: torch or OpenVINO; auto takes OpenVINO where it is installed and can."""
    short_sides: Annotated[tuple[Pixels, ...], Field(min_length=1, strict=False)] = (688,)
    levels: Annotated[tuple[Level, ...], Field(min_length=1, strict=False)] = PAPER_LEVELS
    margin: float = PAPER_MARGIN
    target: Positive = PAPER_TARGET
    scale_rule: Literal["area", "side"] = "area"
    power: Annotated[float, Field(gt=0, le=1)] = 1.0

    def updated(self, given: Mapping[str, Any]) -> FeatureConfig:
        """These with other values of some keys; None leaves a key as it is."""
        return self.model_copy(update={name: value for name, value in given.items() if value is not None})


FEW_IMAGES = 100
"""To learn from: so many gain from their mirror images (docs/training.md)."""


class FineTuningConfig(Section):
    """Fully connected layers between pooled features and scores (paper, section 4.1; constants of the release)."""

    enabled: bool = False
    layer: Literal["fc6", "fc7"] = "fc7"
    """Whose values, after ReLU, the SVMs learn from."""
    beside_pooled: bool = False
    """SVMs learn from pooled features and the layer's, side by side."""
    head: Literal["svm", "softmax"] = "svm"
    """What scores a box: linear SVMs, or fc8 itself."""
    initial: str | None = None
    """An ImageNet classifier that fc6 and fc7 begin with: a safetensors file of torchvision's AlexNet or VGG-16."""
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
    """Learn from mirrored images, too; their maps are cached as the others are."""
    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Part of the images that the best snapshot is chosen on."""
    seed: Seed = 3

    @model_validator(mode="after")
    def _check(self) -> FineTuningConfig:
        if self.head == "softmax" and (self.layer != "fc7" or self.beside_pooled):
            raise ValueError("the softmax is fc8, which reads fc7 alone: say layer: fc7, beside_pooled: false")
        if self.background_iou[0] >= self.background_iou[1] or self.background_iou[1] > self.min_iou:
            raise ValueError(f"background_iou must ascend and end at min_iou {self.min_iou:g} at most")
        return self


Sides = Annotated[tuple[Pixels, Pixels], Field(strict=False)]


class EndToEndConfig(Section):
    """Network, fc6, fc7, classes and moves of boxes learned together (Fast R-CNN with online hard examples)."""

    enabled: bool = False
    steps: Count = 3000
    images_per_step: Count = 4
    min_sizes_start: Sides = (256, 416)
    """Least and largest shorter side of images at the first step, in pixels."""
    min_sizes_end: Sides = (400, 608)
    rois_per_image: Count = 192
    hard_examples: Count = 64
    lr: Positive = 8e-4
    network_lr: Positive = 2.5e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup_steps: Annotated[int, Field(ge=0)] = 150
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Of the mean of the weights: what is left of it after a step."""
    color_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.15

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
    """How many samples are kept for all classes together; null: as many as take 2.5 GB."""
    difficult: bool = True
    flips: bool | None = False
    """Learn from mirrored images, too; their maps are cached as the others are. null: from at most `FEW_IMAGES`."""
    seed: Seed = 3


class RegressionConfig(Section):
    """Bounding-box regression (paper, section 4.1; constants of the release)."""

    enabled: bool = True
    fit: Literal["ridge", "joint"] = "ridge"
    """Ridge regression, as in the paper, or what joint training learned."""
    features: Literal["pooled", "layer"] = "pooled"
    """Pooled features, as in the paper, or those of the fine-tuned layer that the SVMs learn from."""
    min_iou: Fraction = 0.5
    regularization: Positive = 4000.0
    max_samples: Count = 8000

    @model_validator(mode="after")
    def _check(self) -> RegressionConfig:
        if self.fit == "joint" and self.features != "layer":
            raise ValueError("what joint training learned reads fc7: fit: joint needs features: layer")
        return self


class CalibrationConfig(Section):
    """Probabilities and thresholds, told by images that SVMs of their own did not learn from; not in the paper."""

    enabled: bool = True
    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    """Part of the images that is held out; after fine-tuning in the same training, it is that of fine_tuning."""
    cross_validate_below: Annotated[int, Field(ge=0)] = 500
    """Of fewer images than these, all such parts are held out in turn; of more, one."""
    seed: Seed = 3


class ProposalFilterConfig(Section):
    """A first, cheap score of boxes on coarse levels, which tells those worth the rest; not in the paper."""

    enabled: bool = False
    levels: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] = (3, 2, 1)
    images: Count = 500
    """Random ones, to learn from."""
    boxes: Count = 128
    """Of an image, to learn from."""
    regularization: Positive = 0.01
    """As a share of the features' mean variance."""
    seed: Seed = 3


class DetectionConfig(Section):
    """What is kept of the scored boxes of an image (release: spp_test)."""

    min_score: float = -1.5
    max_boxes: Count | None = None
    """Of the proposals, those that are scored: the best of the proposal_filter or, without one, the first. null: all."""
    nms_iou: Fraction = 0.3
    max_detections: Count = 100
    box_refinements: Annotated[int, Field(ge=0, le=100)] = 0
    """Rounds of `refinement.Refiner`; 0 is the release's order: suppress, move once, suppress again."""
    mirrored: bool = False
    """Refine boxes in the mirror image, too, and take means."""
    vote_iou: Annotated[float, Field(gt=0, le=1)] = 0.45
    """Of `refinement.vote`, after refinements."""

    @model_validator(mode="after")
    def _check(self) -> DetectionConfig:
        if self.mirrored and not self.box_refinements:
            raise ValueError("mirrored: true needs box_refinements")
        return self

    def limits(self, min_score: float | None, max_detections: int | None) -> tuple[float, int]:
        """The limits given, or the recipe's where they are None."""
        return (
            self.min_score if min_score is None else min_score,
            self.max_detections if max_detections is None else max_detections,
        )


class Config(Section):
    """A whole recipe. Every section and every key has a default; unknown keys are errors."""

    proposals: ProposalConfig = ProposalConfig()
    features: FeatureConfig = FeatureConfig()
    fine_tuning: FineTuningConfig = FineTuningConfig()
    end_to_end: EndToEndConfig = EndToEndConfig()
    svm: SVMConfig = SVMConfig()
    regression: RegressionConfig = RegressionConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    proposal_filter: ProposalFilterConfig = ProposalFilterConfig()
    detection: DetectionConfig = DetectionConfig()

    @model_validator(mode="after")
    def _check(self) -> Config:
        joint, tuning = self.end_to_end.enabled, self.fine_tuning
        if joint and not tuning.enabled:
            raise ValueError("end_to_end: enabled: true needs fine_tuning: {enabled: true}, whose layers it trains")
        if self.regression.fit == "joint" and not (joint and tuning.layer == "fc7" and not tuning.beside_pooled):
            raise ValueError("regression.fit: joint needs end_to_end, and fc7 alone")
        return self

    @property
    def learns_from_mirrored_maps(self) -> bool:
        """Whether a training reads feature maps of mirror images; a joint training, before it, computes its own."""
        tunes = self.fine_tuning.enabled and not self.end_to_end.enabled
        return (tunes and self.fine_tuning.flips) or bool(self.svm.flips)

    def for_images(self, n_images: int) -> Config:
        """The recipe with what it leaves to the number of training images."""
        if self.svm.flips is not None:
            return self
        return self.model_copy(update={"svm": self.svm.model_copy(update={"flips": n_images <= FEW_IMAGES})})

    def files(self) -> dict[str, str]:
        """SHA-256, in hexadecimal, of each file that the recipe names: another one may come to lie at the same path."""
        named = (self.features.weights, self.features.tuned, self.fine_tuning.initial)
        paths = [Path(name) for name in named if name is not None and Path(name).is_file()]
        return {str(path): digest([path.read_bytes()]) for path in paths}


def load_config(
    path: str | Path,
    weights: str | Path | None = None,
    tuned: str | Path | None = None,
    runtime: Runtime | None = None,
) -> Config:
    """`read_recipe` of a detector; ``weights``, ``tuned`` and ``runtime``, where given, take the place of its own."""
    config = read_recipe(path, Config)
    files = {name: None if file is None else str(file) for name, file in (("weights", weights), ("tuned", tuned))}
    return config.model_copy(update={"features": config.features.updated(files | {"runtime": runtime})})


def parse_config(content: Any, source: str) -> Config:
    """`parse_recipe` of a detector."""
    return parse_recipe(content, Config, source)
