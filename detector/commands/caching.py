"""Filling a cache with the help of workers, which build it for themselves."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detector.commands.engines import engine_of
from detector.commands.options import precomputed_boxes
from detector.config.detector import Config
from detector.runtime.map_images import Threads

if TYPE_CHECKING:
    from detector.features.cache_filling import Where
    from detector.features.feature_cache import FeatureCache


@dataclass(frozen=True)
class CacheBuilding:
    """Builds the cache of a recipe in a directory, with the boxes of a file, if given, in place of proposals."""

    config: Config
    directory: Path
    device: str
    proposals: Path | None

    def __call__(self) -> FeatureCache:
        """Load the network."""
        from detector.stages import build_cache

        return build_cache(self.config, self.directory, self.device, precomputed_boxes(self.proposals))


def where_of(options: Namespace, build: CacheBuilding) -> Where | None:
    """Who fills the cache by the options of `add_engine_options`; None for this process."""
    from detector.features.cache_filling import Where

    engine = engine_of(options)
    return None if isinstance(engine, Threads) else Where(engine, build)
