"""Which file holds the state of a training of a detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.datasets.annotation import Annotation
from detector.features.feature_cache import FeatureCache
from detector.runtime.hashing import digest, fingerprint

UNTOLD = {"runtime"}
"""Keys of a recipe's features that change nothing but what the name of the maps' folder tells."""


def state_file(kind: str, settings: Mapping[str, Any], data: str, cache: FeatureCache) -> Path:
    """The file of one training in the folder of the cache, another one for anything that would change its result.

    ``kind`` begins its name; ``settings`` are JSON-able values, ``data`` is a `data_digest`.
    """
    changes = {"config": settings, "data": data, "maps": cache.maps_directory.name}
    return cache.directory / f"{kind}-{fingerprint(changes)}.safetensors"


def data_digest(annotations: Sequence[Annotation], cache: FeatureCache) -> str:
    """SHA-256, in hexadecimal, of all objects and proposals."""

    def parts() -> Iterator[bytes]:
        for each in annotations:
            yield each.to_bytes()
            yield bytes(cache.proposals(each.image_id, each.path))

    return digest(parts())
