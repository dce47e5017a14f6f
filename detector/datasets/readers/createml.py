"""Create ML's JSON: a list of images, with boxes by their centers, in pixels. Roboflow and RectLabel write it, too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field

from detector.datasets.issues import Report
from detector.datasets.readers.entries import (
    Boxed,
    Content,
    Entry,
    Name,
    Rectangle,
    as_list,
    checked,
    ends_of,
    is_list,
    near_folders,
    read_files,
    read_images,
    read_objects,
)
from detector.datasets.readers.shapes import centered_box
from detector.datasets.records import Export, Record
from detector.datasets.text import read_json


class _Annotation(Entry):
    label: Name
    coordinates: Rectangle


class _Image(Entry):
    image: Name = Field(validation_alias=AliasChoices("image", "imagefilename", "filename"))
    annotations: list[Any] = Field(validation_alias=AliasChoices("annotations", "annotation"))


def is_createml(path: Path) -> bool:
    """Return whether a JSON file is a list of images with centered boxes."""
    ends = ends_of(path)
    named = any(key in ends for key in (b'"image"', b'"imagefilename"', b'"filename"'))
    # without objects, as in a small split, only the name shows it
    return is_list(ends) and named and (b'"coordinates"' in ends or path.name.lower().endswith("createml.json"))


def read_createml(root: Path, files: Sequence[Path], paths: Sequence[Path], report: Report) -> Export:
    """Read the files ``paths``, whose images are among ``files``. Raises ValueError for one that is no list."""

    def read(path: Path) -> Content:
        entries = as_list(read_json(path), f"{path}: the file")
        return Content(read_images(path, entries, lambda entry: _record(entry, path, report), report))

    return read_files("Create ML JSON", root, files, paths, read)


def _record(entry: object, path: Path, report: Report) -> Record:
    image = checked(_Image, entry)
    objects, complete = read_objects(f"{path}: {image.image}", image.annotations, _object, report)
    return Record((image.image,), path, near_folders(path), objects, complete=complete)


def _object(entry: object) -> Boxed:
    each = checked(_Annotation, entry)
    box = each.coordinates
    return Boxed(each.label, centered_box(box.x, box.y, box.width, box.height))
