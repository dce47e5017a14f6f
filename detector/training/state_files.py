"""Which file holds the state of a training of a detector."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detector.features.feature_cache import FeatureCache
from detector.runtime.files import fingerprint
from detector.training.training_set import Annotations, annotation_bytes


def state_file(kind: str, settings: Mapping[str, Any], data: str, cache: FeatureCache) -> Path:
    """The file of one training in the folder of the cache, another one for anything that would change its result.

    ``kind`` begins its name; ``settings`` are JSON-able values, ``data`` is a `data_digest`.
    """
    changes = {"config": settings, "data": data, "maps": cache.maps_directory.name}
    return cache.directory / f"{kind}-{fingerprint(changes)}.safetensors"


def data_digest(annotations: Annotations, cache: FeatureCache) -> str:
    """SHA-256, in hexadecimal, of all objects and proposals."""
    result = hashlib.sha256()
    for each in annotations:
        result.update(annotation_bytes(each))
        result.update(bytes(cache.proposals(each.image_id, each.path)))
    return result.hexdigest()
