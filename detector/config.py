"""Typed, strict configuration: what a recipe in configs/ may say, and the reader that rejects everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detector.features.mapping import PAPER_MARGIN, PAPER_TARGET
from detector.features.pooling import PAPER_LEVELS

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ProposalConfig(_Section):
    """Where boxes come from: selective search (paper, section 4.1), ours or another implementation's."""

    source: Literal["selective_search", "selectivesearch", "opencv"] = "selective_search"
    mode: Literal["single", "fast", "quality"] = "fast"
    ranking: Literal["random", "diverse"] = "diverse"
    max_boxes: Count = 2000
    min_side: Annotated[int, Field(ge=0)] = 20
    seed: int = 0


class FeatureConfig(_Section):
    """Network, scales, mapping and pyramid (paper, sections 2.3 and 4.1, appendix A)."""

    backbone: str = "efficientnet_lite0"
    stage: str | None = None
    weights: str | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    short_sides: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] = (688,)
    levels: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] = PAPER_LEVELS
    margin: float = PAPER_MARGIN
    target: Positive = PAPER_TARGET
    scale_rule: Literal["area", "side"] = "area"
    power: Annotated[float, Field(gt=0, le=1)] = 1.0


class SVMConfig(_Section):
    """Linear SVMs and hard-negative mining (paper, section 4.1; constants of the release)."""

    solver: Literal["primal", "liblinear"] = "primal"
    loss: Literal["hinge", "squared_hinge"] = "hinge"
    C: Positive = 1e-3
    positive_weight: Positive = 2.0
    bias_multiplier: Positive = 10.0
    mean_norm: Positive = 20.0
    centre: bool = False
    max_negative_iou: Fraction = 0.3
    add_above: float = -1.0001
    evict_below: float = -1.2
    max_per_picture: Count = 100
    max_samples: Count = 40_000
    difficult: bool = True
    seed: int = 3


class RegressionConfig(_Section):
    """Bounding-box regression (paper, section 4.1; constants of the release)."""

    enabled: bool = True
    min_iou: Fraction = 0.5
    regularisation: Positive = 4000.0
    max_samples: Count = 8000


class DetectionConfig(_Section):
    """What is kept of the scored boxes of a picture (release: spp_test)."""

    min_score: float = -1.5
    nms_iou: Fraction = 0.3
    max_detections: Count = 100
    refinements: Annotated[int, Field(ge=0)] = 0
    """Rounds of `refinement.Refiner`; 0 is the release's order: suppress, move once, suppress again."""
    vote_iou: Annotated[float, Field(gt=0, le=1)] = 0.45
    """Of `refinement.vote`, after refinements."""


class Config(_Section):
    """A whole recipe. Every section and every key has a default; unknown keys are errors."""

    proposals: ProposalConfig = ProposalConfig()
    features: FeatureConfig = FeatureConfig()
    svm: SVMConfig = SVMConfig()
    regression: RegressionConfig = RegressionConfig()
    detection: DetectionConfig = DetectionConfig()


def load_config(path: str | Path, weights: str | Path | None = None) -> Config:
    """Read a YAML recipe; ``weights``, if given, take the place of its backbone's.

    Raises OSError when it cannot be read and ValueError, in one line with the file, the key and what is allowed,
    when it is not YAML or says something that a recipe must not say.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    config = parse_config({} if content is None else content, str(path))
    if weights is None:
        return config
    features = config.features.model_copy(update={"weights": str(weights)})
    return config.model_copy(update={"features": features})


def parse_config(content: Any, source: str) -> Config:
    """Check the ``content`` of a recipe; ``source`` is what error messages call it."""
    if not isinstance(content, dict):
        raise ValueError(f"{source}: must hold sections such as 'features:', but holds {type(content).__name__}")
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{source}: {_first_fault(error)}") from None


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    location = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown key {location!r}; allowed are {', '.join(_keys_beside(fault['loc']))}"
    return f"{location}: {fault['msg'][0].lower()}{fault['msg'][1:]}, but is {fault['input']!r}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Config
    for part in location[:-1]:
        model = type(model.model_fields[str(part)].default)
    return list(model.model_fields)
