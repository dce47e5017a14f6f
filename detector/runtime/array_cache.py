"""Arrays in files that are computed once: read where they are there, else computed and written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from detector.runtime.files import Arrays, checksum, read_arrays, write_arrays

# the key of an image's checksum: the word of the first version, so that its files stay valid
_OF_IMAGE = "picture"
_log = logging.getLogger(__name__)


def stored_arrays(
    file: Path, otherwise: str = "computing it again", needs: Collection[str] = ()
) -> tuple[Arrays, dict[str, Any]] | None:
    """`read_arrays`, but None where there is no such file.

    A damaged file, or one that lacks an array or a key of the metadata that it ``needs``, is reported, with what is
    done ``otherwise``, and counts as none.
    """
    try:
        arrays, metadata = read_arrays(file)
        if lacking := [name for name in needs if name not in arrays and name not in metadata]:
            raise ValueError(f"{file}: is of another kind, it lacks {lacking[0]!r}")
        return arrays, metadata
    except FileNotFoundError:
        return None
    except ValueError as error:
        _log.warning("%s; %s", error, otherwise)
        return None


def cached_arrays(
    file: Path, compute: Callable[[], Arrays], image: Path | None = None, needs: Collection[str] = ()
) -> Arrays:
    """The arrays in ``file``; where it is missing or damaged, those of ``compute``, which are written to it.

    With ``image``, the path of the file that they are computed from, its checksum is written with them: a file that was
    computed from another image is reported and replaced. It stays in use when its image is gone. ``needs``: names of
    arrays that must be there.
    """
    stored = stored_arrays(file, needs=needs)
    if stored is not None:
        arrays, metadata = stored
        if image is None or not image.exists() or metadata.get(_OF_IMAGE) == checksum([image.read_bytes()]):
            return arrays
        _log.warning("%s: belongs to another image than %s; computing it again", file, image)
    arrays = compute()
    write_arrays(file, arrays, {} if image is None else {_OF_IMAGE: checksum([image.read_bytes()])})
    return arrays
