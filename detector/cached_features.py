"""The cache as training and evaluation use it: filled in advance, or image by image."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from detector.boxes import Boxes
from detector.config.detector import Config
from detector.detections import Detections
from detector.features.encoder import FeatureMaps
from detector.features.feature_cache import FeatureCache
from detector.pipeline import Detector, build_encoder, build_proposer
from detector.runtime.progress import Progress, without_progress
from detector.training.training_set import Annotation

_log = logging.getLogger(__name__)


def build_cache(
    config: Config, directory: Path, device: str = "cpu", precomputed: Mapping[str, Boxes] | None = None
) -> FeatureCache:
    """The cache under ``directory`` of the feature maps and proposals (or ``precomputed`` boxes) of a recipe."""
    encoder, propose = build_encoder(config.features, device), build_proposer(config.proposals)
    return FeatureCache(directory, encoder, propose, config.proposals.model_dump(), precomputed)


def cache_of(detector: Detector, directory: Path, precomputed: Mapping[str, Boxes] | None = None) -> FeatureCache:
    """The cache under ``directory`` of a detector's own feature maps and proposals (or ``precomputed`` boxes).

    Proposals are kept by the recipe's settings of them: a detector whose ``propose`` is not the recipe's needs a
    `FeatureCache` with settings of its own, or ``precomputed`` boxes.
    """
    settings = detector.config.proposals.model_dump()
    return FeatureCache(directory, detector.encoder, detector.propose, settings, precomputed)


def cached_inputs(detector: Detector, cache: FeatureCache, annotation: Annotation) -> tuple[FeatureMaps, Boxes]:
    """`Detector.maps` and boxes of an image, from ``cache``; what is missing there is computed."""
    maps = cache.maps(annotation.image_id, annotation.path)
    if detector.uses_mirror_image:
        maps = replace(maps, mirrored=cache.mirrored_maps(annotation.image_id, annotation.path))
    return maps, cache.proposals(annotation.image_id, annotation.path)


def detect_cached(
    detector: Detector, cache: FeatureCache, annotations: Iterable[Annotation], progress: Progress = without_progress
) -> list[Detections]:
    """What a detector finds in each image, from features in ``cache``; what is missing there is computed."""
    return [detector.detect_in_maps(*cached_inputs(detector, cache, each)) for each in progress(annotations, "detect")]


def fill_cache(
    cache: FeatureCache,
    annotations: Iterable[Annotation],
    progress: Progress = without_progress,
    mirrored: bool = False,
) -> list[Annotation]:
    """Compute what the cache lacks of the images, or of their mirror images; return those that could be read.

    The others are logged. Killed and started again, it goes on where it was. Several processes may fill one cache at a
    time. Raises ValueError when none could be read.
    """
    annotations = list(annotations)
    missing = [each for each in annotations if not cache.is_complete(each.image_id, mirrored)]
    unreadable: set[str] = set()
    # begin anywhere, lest two processes compute the same images side by side
    start = random.randrange(len(missing)) if missing else 0
    title = "features of mirror images" if mirrored else "features"
    for each in progress(missing[start:] + missing[:start], title):
        if cache.is_complete(each.image_id, mirrored):
            continue
        try:
            cache.proposals(each.image_id, each.path)
            (cache.mirrored_maps if mirrored else cache.maps)(each.image_id, each.path)
        except ValueError as error:
            _log.warning("%s; going on without it", error)
            unreadable.add(each.image_id)
    readable = [each for each in annotations if each.image_id not in unreadable]
    if not readable:
        raise ValueError("none of the images could be read")
    return readable
