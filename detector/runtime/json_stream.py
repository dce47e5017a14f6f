"""JSON of any length, written as it comes: whole in the end, or not there."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from detector.runtime.files import replacing


@contextmanager
def whole_text(path: Path) -> Iterator[TextIO]:
    """A text file to write to; it appears under its name, with its folder, when the block ends well.

    ``-`` is standard output. Names of files that are not UTF-8 are written as the bytes that they are.
    """
    if str(path) == "-":
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
            yield file
            file.seek(0)
            shutil.copyfileobj(file, sys.stdout)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
        yield file


@contextmanager
def json_array(path: Path) -> Iterator[Callable[[Any], None]]:
    """What to call with every record of an array, which is the file of ``json.dumps(records, indent=2)``."""
    empty = True

    def add(record: Any) -> None:
        nonlocal empty
        text = json.dumps(record, indent=2).replace("\n", "\n  ")
        file.write(f"{'[' if empty else ','}\n  {text}")
        empty = False

    with whole_text(path) as file:
        yield add
        file.write("[]\n" if empty else "\n]\n")
