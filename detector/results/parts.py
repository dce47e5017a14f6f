"""Results of many images in numbered files, so that a killed run resumes after the last complete one.

A manifest is next to the parts::

    {"format": "spp-detect parts 1", "settings": {...}, "images_per_part": 500, "complete": true,
     "parts": [{"file": "part-00000.jsonl", "images": 500, "failed": 1, "detections": 1730, "crc32": "0c24b7a1"}, ...]}

A part holds the record of each image in order: that of `detector.results.streams`, or ``{"image": name, "error":
line}``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from detector.results.streams import json_lines
from detector.runtime.files import TEMPORARY, checksum, replacing, write_json
from detector.runtime.optional import optional

MANIFEST = "manifest.json"

Record = Mapping[str, Any]
Write = Callable[[Path, Sequence[Record]], None]


class Part(BaseModel):
    """A file of results, with its numbers of images, of failed ones and of detections."""

    file: Annotated[str, Field(pattern=r"^part-\d{5,}\.\w+$")]
    images: int
    failed: int
    detections: int
    crc32: str


class Manifest(BaseModel):
    """Content of a folder of parts. settings: everything that the records depend on."""

    format: Literal["spp-detect parts 1"] = "spp-detect parts 1"
    settings: dict[str, Any]
    images_per_part: int
    complete: bool = False
    parts: list[Part] = []

    def __str__(self) -> str:
        failed = f", {self.count('failed')} images failed" if self.count("failed") else ""
        found = f"{self.count('images')} images, {self.count('detections')} detections"
        return f"{found} in {len(self.parts)} parts{failed}"

    def count(self, name: str) -> int:
        """Return the sum of one of the numbers over all parts."""
        return sum(getattr(part, name) for part in self.parts)


@dataclass
class Parts:
    """Parts in a ``folder``: the ``manifest`` of those complete, and `add` for the records that follow.

    suffix, write: suffix and writer of a part.
    """

    folder: Path
    manifest: Manifest
    suffix: str
    write: Write
    _records: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Add the record of the next image, and write the part that it completes."""
        self._records.append(record)
        if len(self._records) == self.manifest.images_per_part:
            self._write_part()

    def finish(self) -> None:
        """Write the remaining records and mark the manifest as complete."""
        if self._records:
            self._write_part()
        self.manifest.complete = True
        self._write_manifest()

    def _write_part(self) -> None:
        number = len(self.manifest.parts)
        if number == 0:
            self._write_manifest()  # which says what run the part belongs to
        path = self.folder / f"part-{number:05d}{self.suffix}"
        self.write(path, self._records)
        part = Part(
            file=path.name,
            images=len(self._records),
            failed=sum("error" in record for record in self._records),
            detections=sum(len(record.get("detections", ())) for record in self._records),
            crc32=checksum([path.read_bytes()]),
        )
        self.manifest.parts.append(part)
        self._records = []
        self._write_manifest()

    def _write_manifest(self) -> None:
        write_json(self.folder / MANIFEST, self.manifest.model_dump())


@contextmanager
def open_parts(
    folder: Path, settings: Mapping[str, Any], size: int, format_name: str, overwrite: bool = False
) -> Iterator[Parts]:
    """Yield the parts in a folder, which is created if missing and locked for this run.

    settings: everything that the records depend on, as JSON values. size: images per part. format_name: "jsonl" or
    "parquet". overwrite: start over. Raises ValueError for parts of other settings and missing parts, unless
    ``overwrite`` is set, for a folder with other files, and for one that another run writes to.
    """
    manifest = Manifest(settings={**settings, "format": format_name}, images_per_part=size)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        existing = _existing(folder)
        if existing is not None and not overwrite:
            _check(folder, existing, manifest)
            manifest = existing
        for path in folder.iterdir():
            # files that a killed run left incomplete, and the parts to start over from
            if TEMPORARY.fullmatch(path.name) or (overwrite and path.name.startswith(("part-", MANIFEST))):
                path.unlink()
        try:
            yield Parts(folder, manifest, f".{format_name}", WRITERS[format_name])
        finally:
            if not any(folder.iterdir()):
                folder.rmdir()


def _existing(folder: Path) -> Manifest | None:
    """Return the manifest of a folder, None if it is empty. Raises ValueError for a folder with other files."""
    names = {path.name for path in folder.iterdir() if not TEMPORARY.fullmatch(path.name)}
    if not names:
        return None
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (ValidationError, FileNotFoundError):
        raise ValueError(f"{folder} holds other files than parts; give an empty folder") from None


def _check(folder: Path, existing: Manifest, ours: Manifest) -> None:
    """Raise ValueError unless this run can continue from the existing parts."""
    differing = [name for name, value in ours.settings.items() if existing.settings.get(name) != value]
    differing += ["part size"] if existing.images_per_part != ours.images_per_part else []
    if differing:
        raise ValueError(
            f"{folder} holds parts made with other settings ({', '.join(differing)}); give another folder, or "
            "--overwrite to start over"
        )
    for part in existing.parts:
        if not (folder / part.file).is_file():
            raise ValueError(f"{folder / part.file} is missing; --overwrite starts over")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other runs; the lock ends with the process. Nothing is locked where there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # of a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"{folder}: another run writes to it") from None
        yield
    finally:
        os.close(handle)


def write_json_lines(path: Path, records: Sequence[Record]) -> None:
    """Write one JSON object per line."""
    with json_lines(path) as add:
        for record in records:
            add(record)


def write_parquet(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write a Parquet file with a row for each record: image, width, height, error, detections; missing ones are null.

    Frames of films also have frame and time. A detection is ``{label, score, probability, box}``. File names that are
    not UTF-8 are escaped. Raises MissingPackageError without pyarrow.
    """
    arrow, parquet = optional("pyarrow", "parquet"), optional("pyarrow.parquet", "parquet")
    real, text = arrow.float32(), arrow.string()
    detection = arrow.struct([("label", text), ("score", real), ("probability", real), ("box", arrow.list_(real, 4))])
    columns = [("image", text), ("width", arrow.int32()), ("height", arrow.int32()), ("error", text)]
    if any("frame" in record for record in records):
        columns += [("frame", arrow.int64()), ("time", arrow.float64())]
    schema = arrow.schema([*columns, ("detections", arrow.list_(detection))])
    rows = [{**record, "image": _utf8(record["image"])} for record in records]
    rows = [{**row, "error": _utf8(row["error"])} if "error" in row else row for row in rows]
    with replacing(path) as temporary:
        parquet.write_table(arrow.Table.from_pylist(rows, schema), temporary, compression="zstd")


def check_parquet() -> None:
    """Raise MissingPackageError without the package that writes Parquet."""
    optional("pyarrow.parquet", "parquet")


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


WRITERS: Mapping[str, Write] = {"jsonl": write_json_lines, "parquet": write_parquet}
"""By the name of the format, which is also the suffix of its files."""
