"""Results of many images in numbered files, each written whole, so that a run that was killed goes on after the last.

Next to the parts lies a manifest::

    {"format": "spp detect parts 1", "settings": {...}, "images_a_part": 500, "complete": true,
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
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from detector.runtime.files import TEMPORARY, checksum, replacing, write_json
from detector.runtime.optional import optional


def write_table(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """A row for each record: image, width, height, error, and a list of detections; what a record lacks is null.

    A detection is ``{label, score, probability, box}``. Names of files that are no UTF-8 are escaped. Raises
    MissingPackageError without pyarrow.
    """
    arrow, parquet = optional("pyarrow", "parquet"), optional("pyarrow.parquet", "parquet")
    real, text = arrow.float32(), arrow.string()
    detection = arrow.struct([("label", text), ("score", real), ("probability", real), ("box", arrow.list_(real, 4))])
    columns = [("image", text), ("width", arrow.int32()), ("height", arrow.int32()), ("error", text)]
    schema = arrow.schema([*columns, ("detections", arrow.list_(detection))])
    rows = [{**record, "image": _utf8(record["image"])} for record in records]
    rows = [{**row, "error": _utf8(row["error"])} if "error" in row else row for row in rows]
    with replacing(path) as temporary:
        parquet.write_table(arrow.Table.from_pylist(rows, schema), temporary, compression="zstd")


def check_parquet() -> None:
    """Raise MissingPackageError where such files cannot be written."""
    optional("pyarrow.parquet", "parquet")


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


MANIFEST = "manifest.json"

Record = Mapping[str, Any]
Write = Callable[[Path, Sequence[Record]], None]


class Part(BaseModel):
    """A file of results: how many images it has, how many of them failed, and how many detections."""

    file: Annotated[str, Field(pattern=r"^part-\d{5,}\.\w+$")]
    images: int
    failed: int
    detections: int
    crc32: str


class Manifest(BaseModel):
    """What is in a folder of parts. settings: what the records depend on."""

    format: Literal["spp detect parts 1"] = "spp detect parts 1"
    settings: dict[str, Any]
    images_a_part: int
    complete: bool = False
    parts: list[Part] = []

    def __str__(self) -> str:
        failed = f", {self.count('failed')} images failed" if self.count("failed") else ""
        found = f"{self.count('images')} images, {self.count('detections')} detections"
        return f"{found} in {len(self.parts)} parts{failed}"

    def count(self, name: str) -> int:
        """The sum of a number of all parts."""
        return sum(getattr(part, name) for part in self.parts)


@dataclass
class Parts:
    """Parts in a ``folder``: the ``manifest`` of those that are there, and `add` for the records that follow.

    ending, write: of a file.
    """

    folder: Path
    manifest: Manifest
    ending: str
    write: Write
    _records: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """The record of the next image; every so many of them are written."""
        self._records.append(record)
        if len(self._records) == self.manifest.images_a_part:
            self._write_part()

    def finish(self) -> None:
        """Write what is left, and that nothing follows."""
        if self._records:
            self._write_part()
        self.manifest.complete = True
        self._write_manifest()

    def _write_part(self) -> None:
        number = len(self.manifest.parts)
        if number == 0:
            self._write_manifest()  # which says whose part it is
        path = self.folder / f"part-{number:05d}{self.ending}"
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
    folder: Path, settings: Mapping[str, Any], size: int, form: str, overwrite: bool = False
) -> Iterator[Parts]:
    """The parts in a folder, which is made where it is missing, for this run alone.

    settings: what the records depend on, as JSON-able values. form: "jsonl" or "parquet". Raises ValueError for parts
    of another run, or one that is missing, unless ``overwrite`` says to start over, and for a folder that holds other
    files, or that another run writes to.
    """
    manifest = Manifest(settings={**settings, "form": form}, images_a_part=size)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        there = _there(folder)
        if there is not None and not overwrite:
            _check(folder, there, manifest)
            manifest = there
        for path in folder.iterdir():
            # what a run left that was killed in mid-file, and where all is to start over, the parts
            if TEMPORARY.fullmatch(path.name) or (overwrite and path.name.startswith(("part-", MANIFEST))):
                path.unlink()
        try:
            yield Parts(folder, manifest, f".{form}", WRITERS[form])
        finally:
            if not any(folder.iterdir()):
                folder.rmdir()


def _there(folder: Path) -> Manifest | None:
    """The manifest in a folder; None where nothing is. Raises ValueError where other files are."""
    names = {path.name for path in folder.iterdir() if not TEMPORARY.fullmatch(path.name)}
    if not names:
        return None
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (ValidationError, FileNotFoundError):
        raise ValueError(f"{folder} holds other files than parts; name an empty folder") from None


def _check(folder: Path, there: Manifest, ours: Manifest) -> None:
    """Raise ValueError where the parts that are there are not ours to go on from."""
    differing = [name for name, value in ours.settings.items() if there.settings.get(name) != value]
    differing += ["part size"] if there.images_a_part != ours.images_a_part else []
    if differing:
        raise ValueError(
            f"{folder} holds parts made otherwise ({', '.join(differing)}); name another folder, or say --overwrite "
            "to start over"
        )
    for part in there.parts:
        if not (folder / part.file).is_file():
            raise ValueError(f"{folder / part.file} is missing; say --overwrite to start over")


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
    """A row for each record, its detections as a list; see `detector.results.parts`."""

    write_table(path, records)


WRITERS: Mapping[str, Write] = {"jsonl": write_json_lines, "parquet": write_parquet}
"""By the name of the form, which is the ending of its files, too."""
