"""What a recipe says of an image before anything is learned: its boxes, and their features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from detector.config.recipes import Count, Level, Pixels, Positive, Section, Seed
from detector.features.mapping import PAPER_MARGIN, PAPER_TARGET
from detector.features.pooling import PAPER_LEVELS
from detector.runtime.processor import Precision, Runtime


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
