"""Results of many images in numbered files, each written whole, so that a run that was killed goes on after the last.

Next to the parts lies a manifest::

    {"format": "spp-detect parts 1", "settings": {...}, "images_a_part": 500, "complete": true,
     "parts": [{"file": "part-00000.jsonl", "images": 500, "failed": 1, "detections": 1730, "crc32": "0c24b7a1"}, ...]}

A part holds a record for every image, in their order: that of other forms, or ``{"image": name, "error": line}``.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detector.runtime.files import TEMPORARY, replacing, write_json
from detector.runtime.hashing import checksum

MANIFEST = "manifest.json"
FORMAT = "spp-detect parts 1"

Record = Mapping[str, Any]
Write = Callable[[Path, Sequence[Record]], None]


@dataclass
class Parts:
    """Parts in a ``folder``: those that are there, and `add` for the records that follow.

    size: images a part. ending, write: of a file. settings: what the records depend on, as JSON-able values.
    """

    folder: Path
    settings: Mapping[str, Any]
    size: int
    ending: str
    write: Write
    _parts: list[dict[str, Any]] = field(default_factory=list)
    _records: list[Record] = field(default_factory=list)
    complete: bool = False

    @property
    def n_images(self) -> int:
        """Images of the parts that are written."""
        return self._sum("images")

    @property
    def n_failed(self) -> int:
        """Those of them that could not be done."""
        return self._sum("failed")

    def __str__(self) -> str:
        return f"{self.n_images} images, {self._sum('detections')} detections in {len(self._parts)} parts" + (
            f", {self.n_failed} images failed" if self.n_failed else ""
        )

    def add(self, record: Record) -> None:
        """The record of the next image; every so many of them are written."""
        self._records.append(record)
        if len(self._records) == self.size:
            self._write_part()

    def finish(self) -> None:
        """Write what is left, and that nothing follows."""
        if self._records:
            self._write_part()
        self.complete = True
        self._write_manifest()

    def read(self) -> None:
        """Go on from the manifest in the folder; ValueError where it is of another run."""
        manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        ours = self._manifest()
        if differing := [name for name in ("settings", "images_a_part") if manifest.get(name) != ours[name]]:
            names = differing if differing != ["settings"] else self._differing(manifest["settings"])
            raise ValueError(
                f"{self.folder} holds parts made otherwise ({', '.join(names)}); name another folder, or say "
                "--overwrite to start over"
            )
        self._parts, self.complete = manifest["parts"], manifest["complete"]

    def _differing(self, settings: Mapping[str, Any]) -> list[str]:
        return [name for name, value in self.settings.items() if settings.get(name) != value]

    def _sum(self, name: str) -> int:
        return sum(part[name] for part in self._parts)

    def _write_part(self) -> None:
        path = self.folder / f"part-{len(self._parts):05d}{self.ending}"
        self.write(path, self._records)
        failed = sum("error" in record for record in self._records)
        found = sum(len(record.get("detections", ())) for record in self._records)
        counts = {"images": len(self._records), "failed": failed, "detections": found}
        self._parts.append({"file": path.name, **counts, "crc32": checksum([path.read_bytes()])})
        self._records = []
        self._write_manifest()

    def _write_manifest(self) -> None:
        write_json(self.folder / MANIFEST, self._manifest())

    def _manifest(self) -> dict[str, Any]:
        start = {"format": FORMAT, "settings": dict(self.settings), "images_a_part": self.size}
        return {**start, "complete": self.complete, "parts": self._parts}


@contextmanager
def open_parts(
    folder: Path, settings: Mapping[str, Any], size: int, form: str, overwrite: bool = False
) -> Iterator[Parts]:
    """The parts in a folder, which is made where it is missing, for this run alone.

    form: "jsonl" or "parquet". Raises ValueError for parts of another run, unless ``overwrite`` says to start over, and
    for a folder that holds other files, or that another run writes to.
    """
    parts = Parts(folder, {**settings, "form": form}, size, f".{form}", WRITERS[form])
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        names = {path.name for path in folder.iterdir() if not TEMPORARY.fullmatch(path.name)}
        if names and not _ours(folder):
            raise ValueError(f"{folder} holds other files than parts; name an empty folder")
        for path in folder.iterdir():
            # what a run left that was killed in mid-file, and where all is to start over, the parts
            if TEMPORARY.fullmatch(path.name) or (overwrite and path.name.startswith(("part-", MANIFEST))):
                path.unlink()
        if (folder / MANIFEST).exists():
            parts.read()
        yield parts


def _ours(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the lock ends with the process, however it ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            os.close(handle)
            raise ValueError(f"{folder}: another run writes parts there") from None
        # a file system without locks
    try:
        yield
    finally:
        os.close(handle)


def write_json_lines(path: Path, records: Sequence[Record]) -> None:
    """A JSON object a line."""
    with replacing(path) as temporary:
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        temporary.write_text(lines, encoding="utf-8", errors="surrogateescape")


def write_parquet(path: Path, records: Sequence[Record]) -> None:
    """A row for each record, its detections as a list; see `detector.results.parquet`."""
    from detector.results.parquet import write_table

    write_table(path, records)


WRITERS: Mapping[str, Write] = {"jsonl": write_json_lines, "parquet": write_parquet}
"""By the name of the form, which is the ending of its files, too."""
