"""Where files go that nobody named a place for."""

from __future__ import annotations

import os
import re
from pathlib import Path

from detector.runtime.hashing import fingerprint


def cache_root() -> Path:
    """The folder of all features that commands keep by themselves, by the XDG base directory specification."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    # the specification: a relative path is invalid, and to be ignored
    base = Path(root) if Path(root).is_absolute() else Path.home() / ".cache"
    return base / "spp-detector" / "features"


def cache_of(data: Path) -> Path:
    """The folder in `cache_root` of one data set; another for each, since their images may have the same names."""
    path = data.resolve()
    return cache_root() / f"{slug(path)}-{fingerprint({'data': str(path)})[:8]}"


def slug(path: Path) -> str:
    """The name of a file, without its ending, or of a folder as part of another name: letters, digits, ``_.-``."""
    path = path.resolve()
    name = path.name if path.is_dir() else path.stem
    return re.sub(r"[^\w.-]+", "-", name).strip("-._")[:80] or "data"
