"""Names for contents: what is in a file, an array, a set of settings, in a few hexadecimal digits.

Caches, states of trainings and models are known by these, so that none of the values may ever change.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any


def digest(parts: Iterable[Any]) -> str:
    """SHA-256, 64 hexadecimal digits, of buffers (bytes, C-contiguous arrays) one after the other."""
    result = hashlib.sha256()
    for part in parts:
        result.update(part)
    return result.hexdigest()


def fingerprint(settings: Mapping[str, object]) -> str:
    """First 16 digits of the `digest` of ``settings`` as JSON with sorted keys: a name for a file or a folder."""
    return digest([json.dumps(settings, sort_keys=True).encode()])[:16]


def checksum(parts: Iterable[Any]) -> str:
    """CRC-32, 8 hexadecimal digits, of buffers one after the other: quick, and enough to notice damage."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"
