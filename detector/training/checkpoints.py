"""Names of checkpoint files: a fingerprint of everything that changes the result of a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.datasets.dataset import Annotation
from detector.features.cache import FeatureCache
from detector.runtime.files import digest, fingerprint

NOT_FINGERPRINTED = {"runtime"}
"""Keys of a recipe's features that change a result only through the feature maps, which have names of their own."""


def state_file(kind: str, settings: Mapping[str, Any], data: str, cache: FeatureCache) -> Path:
    """Return the checkpoint file of a training in the cache directory, with a name that begins with ``kind``.

    settings: JSON-able values, everything that changes the result but the data.
    data: a `data_digest`.
    """
    return cache.directory / f"{kind}-{fingerprint({'config': settings, 'data': data})}.safetensors"


def data_digest(annotations: Sequence[Annotation], cache: FeatureCache) -> str:
    """Return the SHA-256, in hexadecimal, of all objects and proposals."""

    def parts() -> Iterator[bytes]:
        for each in annotations:
            yield each.to_bytes()
            yield bytes(cache.proposals(each.image_id, each.path, each.window))

    return digest(parts())
