"""Delete caches: only files that this program wrote, whatever else is in the folder."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from detector.features.cache import SETTINGS
from detector.runtime.array_files import read_metadata
from detector.runtime.files import TEMPORARY

# names given by FeatureCache, by training states and by `replacing`
_FOLDER = re.compile(r"(maps|proposals)-[0-9a-f]{16}")
_STATE = re.compile(r"(training|fine-tuning|calibration|end-to-end|seconds)-[0-9a-f]{16}(-weights)?\.safetensors")
_ENTRY = re.compile(rf"[^.].*\.safetensors|{TEMPORARY.pattern}|\..+\.[0-9a-f]{{12}}\.tmp")
_DAY = 86400


class Freed(NamedTuple):
    """Files deleted from one folder of a cache, or one training state."""

    path: Path
    n_files: int
    n_bytes: int


def clean_cache(directory: Path, older_than_days: float = 0) -> list[Freed]:
    """Delete maps, proposals and training states of the cache ``directory``, and of caches that are folders in it.

    older_than_days: only folders and states that were not written to since.
    Other files and their folders stay; links are not followed. Raises OSError without such a folder, and for files
    that cannot be deleted.
    """
    latest = time.time() - older_than_days * _DAY
    caches = [directory, *(each for each in sorted(directory.iterdir()) if _is_folder(each) and not _is_ours(each))]
    freed = []
    for cache in caches:
        for path in sorted(cache.iterdir()):
            files = [*_files(path)]
            # without an age, files from the future of a clock that is ahead are deleted, too
            if not files or (older_than_days and max(each.stat().st_mtime for each in files) > latest):
                continue
            freed.append(Freed(path, len(files), sum(each.stat().st_size for each in files)))
            for each in files:
                each.unlink()
            _remove_if_empty(path)
        if cache != directory:
            _remove_if_empty(cache)
    return freed


def _files(path: Path) -> Iterator[Path]:
    """Yield our files in a folder of ours, or the path itself if it is a training state."""
    if _is_ours(path):
        yield from (each for each in path.iterdir() if _is_file(each) and _ENTRY.fullmatch(each.name))
        yield path / SETTINGS
    elif _STATE.fullmatch(path.name) and _is_file(path) and _is_state(path):
        yield path


def _is_ours(folder: Path) -> bool:
    """Return whether a folder has one of our names and holds settings."""
    if not (_is_folder(folder) and _FOLDER.fullmatch(folder.name) and _is_file(folder / SETTINGS)):
        return False
    try:
        return isinstance(json.loads((folder / SETTINGS).read_text(encoding="utf-8")), dict)
    except (ValueError, RecursionError):
        return False


def _is_state(path: Path) -> bool:
    try:
        read_metadata(path)
    except ValueError:
        return False
    return True


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
