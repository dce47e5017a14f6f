"""The stages that a recipe or a model file names, built: source of boxes, encoder, heads, the cache of features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.backbones.backbone import Runtime, load_any_backbone
from detector.backbones.weights import Arrays
from detector.boxes import Boxes
from detector.config.detector import Config, FeatureConfig, ProposalConfig, parse_config
from detector.features.cache import FeatureCache
from detector.features.encoder import RegionEncoder, signed_power
from detector.heads.heads import Heads
from detector.model_file import ModelContents
from detector.proposals.selective_search import propose_reduced, selective_search

Proposer = Callable[[NDArray[np.uint8]], Boxes]

TUNED = "backbone"
"""Before the names of the backbone's fine-tuned tensors in a model file."""


def build_proposer(config: ProposalConfig) -> Proposer:
    """The source of boxes that a recipe names: image to ``(R, 4)`` boxes."""
    propose: Callable[..., Boxes] = selective_search
    settings = config.model_dump(exclude={"source", "max_pixels"})
    if config.source == "selectivesearch":
        from detector.proposals.sources import selectivesearch_package as propose

        settings = config.model_dump(include={"max_boxes", "min_side"})
    elif config.source == "opencv":
        from detector.proposals.sources import opencv_contrib as propose

        settings = config.model_dump(exclude={"source", "ranking", "max_pixels"})
    proposer: Proposer = partial(propose, **settings)
    if config.max_pixels is None:
        return proposer
    return partial(propose_reduced, propose=proposer, max_pixels=config.max_pixels)


def proposer_key(propose: Proposer) -> Any:
    """Equal for proposers that give equal boxes: the same ones, and those of equal recipes."""
    if isinstance(propose, partial):
        return propose.func, repr((propose.args, sorted(propose.keywords.items())))
    return propose


def build_encoder(config: FeatureConfig, device: str = "cpu", tuned: Arrays | None = None) -> RegionEncoder:
    """Network, scales, mapping and pyramid of a recipe; ``device`` is torch's name of one.

    ``tuned``, where given, are the tensors of the file that the recipe names.
    """
    layers = config.tuned if tuned is None else tuned
    return RegionEncoder(
        load_any_backbone(
            config.backbone, config.stage, config.weights, device, config.precision, layers, config.runtime
        ),
        short_sides=config.short_sides,
        levels=config.levels,
        margin=config.margin,
        target=config.target,
        scale_rule=config.scale_rule,
        normalize=partial(signed_power, power=config.power),
    )


def build_cache(
    config: Config, directory: Path, device: str = "cpu", precomputed: Mapping[str, Boxes] | None = None
) -> FeatureCache:
    """The cache under ``directory`` of the feature maps and proposals (or ``precomputed`` boxes) of a recipe."""
    encoder, propose = build_encoder(config.features, device), build_proposer(config.proposals)
    return FeatureCache(directory, encoder, propose, config.proposals.model_dump(), precomputed)


def stages_of(
    contents: ModelContents, device: str = "cpu", weights: str | Path | None = None, runtime: Runtime | None = None
) -> tuple[Config, Proposer, RegionEncoder, Heads]:
    """The recipe and the stages of a detector's file; ``weights`` and ``runtime`` are in place of the backbone's.

    Raises ValueError for a recipe that cannot be and for another backbone than in training, KeyError for an array that
    is missing.
    """
    config = parse_config(contents.config, "its configuration")
    given = {"weights": None if weights is None else str(weights), "runtime": runtime}
    features = config.features.updated(given)
    encoder = build_encoder(features, device, contents.under(TUNED))
    contents.check_backbone(features.backbone, encoder.backbone.digest)
    precision, beside_pooled = encoder.backbone.precision, config.fine_tuning.beside_pooled
    heads = Heads.from_arrays(
        contents.arrays,
        precision,
        device,
        beside_pooled,
        config.regression.features,
        config.proposal_filter.levels,
        encoder.backbone.runtime,
    )
    return config, build_proposer(config.proposals), encoder, heads
