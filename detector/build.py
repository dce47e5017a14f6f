"""Build the parts of a detector from its recipe or its model file: proposer, encoder, heads, feature cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.backbones.backbone import Runtime, load_backbone
from detector.backbones.weights import Arrays, check_finite
from detector.boxes import Boxes
from detector.config.detector import Config, FeatureConfig, ProposalConfig, parse_config
from detector.features.cache import FeatureCache
from detector.features.encoder import RegionEncoder, signed_power
from detector.heads.fully_connected import FullyConnected
from detector.heads.heads import Heads
from detector.model_file import BACKBONE, ModelContents
from detector.proposals.selective_search import propose_reduced, selective_search

Proposer = Callable[[NDArray[np.uint8]], Boxes]
TILE_PIXELS = 5
"""A tile is searched on the pixels of a whole image over this: with its tiles, an image takes a few times as long."""
_OF_COPIES = "max_pixels", "zoom"
ADDED = "added"
"""Key and prefix, in a model file, of classes that were added later."""


def build_proposer(config: ProposalConfig) -> Proposer:
    """Return the proposer of a recipe, a callable from an image to ``(R, 4)`` boxes."""
    propose: Callable[..., Boxes] = selective_search
    settings = config.model_dump(exclude={"source", *_OF_COPIES})
    if config.source == "selectivesearch":
        from detector.proposals.sources import selectivesearch_package as propose

        settings = config.model_dump(include={"max_boxes", "min_side"})
    elif config.source == "opencv":
        from detector.proposals.sources import opencv_contrib as propose

        settings = config.model_dump(exclude={"source", "ranking", *_OF_COPIES})
    proposer: Proposer = partial(propose, **settings)
    if config.max_pixels is None and config.zoom == 1:
        return proposer
    return partial(propose_reduced, propose=proposer, max_pixels=config.max_pixels, zoom=config.zoom)


def tile_proposer(propose: Proposer) -> Proposer:
    """Return the proposer of tiles: that of images, on fewer pixels if these are limited."""
    if isinstance(propose, partial) and propose.func is propose_reduced and propose.keywords["max_pixels"] is not None:
        return partial(propose, max_pixels=max(1, propose.keywords["max_pixels"] // TILE_PIXELS))
    return propose


def proposer_key(propose: Proposer) -> Any:
    """Return a key that is equal for proposers of equal boxes: the same proposer, or proposers of equal recipes."""
    if isinstance(propose, partial):
        return propose.func, repr((propose.args, sorted(propose.keywords.items())))
    return propose


def build_encoder(config: FeatureConfig, device: str = "cpu", weights: Arrays | None = None) -> RegionEncoder:
    """Return the encoder of a recipe: network, scales, mapping and pyramid.

    device: torch's name of one.
    weights: all tensors of the network, by name, instead of those that the recipe names.
    """
    source = config.weights if weights is None else weights
    return RegionEncoder(
        load_backbone(config.backbone, config.stage, source, device, config.precision, config.runtime),
        short_sides=config.short_sides,
        levels=config.levels,
        margin=config.margin,
        target=config.target,
        scale_rule=config.scale_rule,
        normalize=partial(signed_power, power=config.power),
    )


def build_cache(
    config: Config, directory: Path, device: str = "cpu", precomputed: Mapping[str, Boxes] | Path | None = None
) -> FeatureCache:
    """Open the cache under ``directory`` of the feature maps and proposals of a recipe, or ``precomputed`` boxes.

    A path stands for `PrecomputedBoxes` of that file.
    """
    if isinstance(precomputed, Path):
        from detector.proposals.sources import PrecomputedBoxes

        precomputed = PrecomputedBoxes(precomputed)
    encoder, propose = build_encoder(config.features, device), build_proposer(config.proposals)
    in_tile = tile_proposer(propose)
    return FeatureCache(directory, encoder, propose, config.proposals.cache_settings, precomputed, in_tile)


def build_from_model(
    contents: ModelContents, device: str = "cpu", runtime: Runtime | None = None
) -> tuple[Config, Proposer, RegionEncoder, Heads]:
    """Return the recipe, proposer, encoder and heads of a model file; ``runtime`` replaces the recipe's.

    Raises ValueError for an invalid recipe and for weights that are not those of the training, KeyError for a missing
    array.
    """
    config = parse_config(contents.config, "its configuration")
    features = config.features.updated({"runtime": runtime})
    encoder = build_encoder(features, device, weights=contents.under(BACKBONE))
    contents.check_backbone(features.backbone, encoder.backbone.digest)
    check_finite(encoder.backbone.tensors, features.backbone)
    return config, build_proposer(config.proposals), encoder, build_heads(contents.arrays, config, encoder, device)


def build_heads(arrays: Arrays, config: Config, encoder: RegionEncoder, device: str = "cpu") -> Heads:
    """Return the heads of a model file's arrays, as fast and precise as the encoder."""
    return Heads.from_arrays(
        arrays,
        encoder.backbone.precision,
        device,
        config.regression.features,
        config.proposal_filter.levels,
        encoder.backbone.runtime,
    )


def build_added(
    contents: ModelContents, encoder: RegionEncoder, layers: FullyConnected | None, device: str = "cpu"
) -> list[tuple[Heads, tuple[str, ...], Config, dict[str, Any]]]:
    """Return heads, class names, recipe and record of the classes that were added to a model, part by part.

    layers: those of the model, which a part may share. Raises ValueError for an invalid description of a part.
    """
    parts = []
    for number, each in enumerate(_checked(contents.more.get(ADDED, []))):
        config = parse_config(each["config"], "the configuration of an added class")
        heads = build_heads(contents.under(f"{ADDED}.{number}"), config, encoder, device)
        heads = replace(heads, layers=layers) if each["shares_layers"] else heads
        parts.append((heads, tuple(each["class_names"]), config, each["record"]))
    return parts


def added_contents(
    layers: FullyConnected | None, parts: Sequence[tuple[Heads, tuple[str, ...], Config, Mapping[str, Any]]]
) -> tuple[Arrays, list[dict[str, Any]]]:
    """Return the arrays and descriptions of `build_added`'s parts for a model file.

    layers: those of the model, which are not repeated for a part that shares them.
    """
    arrays: dict[str, NDArray[Any]] = {}
    added = []
    for number, (heads, class_names, config, record) in enumerate(parts):
        shares_layers = heads.layers is not None and heads.layers is layers
        own = replace(heads, layers=None) if shares_layers else heads
        arrays |= {f"{ADDED}.{number}.{name}": array for name, array in own.to_arrays().items()}
        recipe = config.model_dump(mode="json")
        described = {"class_names": list(class_names), "config": recipe, "record": dict(record)}
        added.append({**described, "shares_layers": shares_layers})
    return arrays, added


def _checked(added: Any) -> list[dict[str, Any]]:
    """Return the descriptions of added classes. Raises ValueError for what no model file says."""
    kinds = {"class_names": list, "config": dict, "record": dict, "shares_layers": bool}
    if not isinstance(added, list) or not all(
        isinstance(each, dict) and all(isinstance(each.get(key), kind) for key, kind in kinds.items()) for each in added
    ):
        raise ValueError(f"{ADDED} must be a list of objects with {', '.join(kinds)}")
    return added
