"""Hugging Face's ImageFolder: metadata.jsonl or metadata.csv beside the images of each split, boxes `x y width height`.

A line names an image and its objects, as lists of boxes and categories or as a list of objects.
"""

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import FiniteFloat

from detector.datasets.issues import Issue, IssueKind, Report
from detector.datasets.readers.entries import (
    Boxed,
    Content,
    Entry,
    Name,
    as_dict,
    as_list,
    checked,
    ends_of,
    near_folders,
    read_files,
    read_images,
    read_objects,
    size_of,
)
from detector.datasets.readers.shapes import corners_of
from detector.datasets.records import Export, Record
from detector.datasets.text import read_csv, read_text

_BOXES = ("bbox", "bboxes", "boxes", "box")
_CLASSES = ("category", "categories", "label", "labels", "category_name", "class", "category_id", "class_id")
_CARD = "README.md"
_OBJECTS = "objects"


class _Image(Entry):
    file_name: Name
    width: Any = None
    height: Any = None


class _Object(Entry):
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
    label: Name


def is_image_folder(path: Path) -> bool:
    """Return whether a file has the name of ImageFolder's metadata, and names images and boxes."""
    ends = ends_of(path)
    return path.stem == "metadata" and b"file_name" in ends and any(key.encode() in ends for key in (_OBJECTS, *_BOXES))


def read_image_folder(root: Path, files: Sequence[Path], paths: Sequence[Path], report: Report) -> Export:
    """Read the files ``paths``, whose images are among ``files``.

    Categories by number have the names of the data card (README.md), if it lists them. Listed images without boxes have
    no objects. Raises ValueError, naming the file, for one that is not text.
    """
    names = next(filter(None, (_names_in_card(path) for path in files if path.name == _CARD)), {})

    def read(path: Path) -> Content:
        entries = _table(path) if path.suffix.lower() == ".csv" else _lines(path, report)
        records = read_images(path, entries, lambda entry: _record(entry, names, path, report), report)
        numbered = not names and any(each.class_name.isdecimal() for record in records for each in record.objects or ())
        note = f"{path}: classes are numbers; a {_CARD} with class_label, as on the hub, names them"
        return Content(records, [*names.values()], notes=(note,) if numbered else ())

    return read_files("Hugging Face ImageFolder", root, files, paths, read)


def _lines(path: Path, report: Report) -> Iterator[object]:
    for number, line in enumerate(read_text(path, None).split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                report(Issue(IssueKind.BAD_ANNOTATION, f"{path}: line {number} is not JSON ({error})"))


def _table(path: Path) -> Iterator[object]:
    rows = read_csv(path)
    header = [name.strip() for name in next(rows, [])]
    for row in rows:
        if row:
            yield {name: _cell(text) for name, text in zip(header, row, strict=False)}


def _cell(text: str) -> object:
    """Return the content of a cell: lists and mappings are written in JSON or as Python prints them."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _record(content: object, names: Mapping[str, str], path: Path, report: Report) -> Record:
    entry = as_dict(content, "a line")
    image = checked(_Image, entry)
    place = f"{path}: {image.file_name}"
    objects, complete = read_objects(place, _objects(entry), lambda each: _object(each, names), report)
    folder = path.parent.joinpath(*Path(image.file_name).parent.parts)
    size = size_of(image.width, image.height)
    return Record((image.file_name,), path, (folder, *near_folders(path)), objects, size, complete=complete)


def _objects(entry: Mapping[str, Any]) -> list[object]:
    """Return the objects of an image as mappings, which lists of boxes and categories are joined to."""
    held = entry.get(_OBJECTS, entry)
    if isinstance(held, list):
        return held
    columns = as_dict(held or {}, _OBJECTS)
    boxes = as_list(next((columns[key] for key in _BOXES if columns.get(key)), []), "boxes")
    classes = as_list(next((columns[key] for key in _CLASSES if columns.get(key) is not None), []), "categories")
    if len(classes) != len(boxes):
        raise ValueError(f"has {len(boxes)} boxes, but {len(classes)} categories")
    return [{"bbox": box, "category": name} for box, name in zip(boxes, classes, strict=True)]


def _object(content: object, names: Mapping[str, str]) -> Boxed:
    entry = as_dict(content, "an object")
    box = next((entry[key] for key in _BOXES if key in entry), None)
    label = next((entry[key] for key in _CLASSES if key in entry), None)
    each = checked(_Object, {"box": box, "label": label})
    return Boxed(names.get(each.label, each.label), corners_of(*each.box))


def _names_in_card(path: Path) -> dict[str, str]:
    """Return the names of categories by number, from the header of a data card; none if it has no such list."""
    header = read_text(path).removeprefix("---").partition("\n---")[0]
    try:
        return _class_labels(yaml.load(header, yaml.BaseLoader))  # nosec B506: strings only
    except (yaml.YAMLError, RecursionError):
        return {}


def _class_labels(content: object) -> dict[str, str]:
    """Return the first mapping of names that is below a key ``class_label``."""
    if isinstance(content, dict):
        label = content.get("class_label")
        names = label.get("names") if isinstance(label, dict) else None
        if isinstance(names, dict) and all(isinstance(name, str) for name in names.values()):
            return names
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return next(filter(None, map(_class_labels, parts)), {})
