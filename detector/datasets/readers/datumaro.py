"""Datumaro's JSON, which CVAT and Intel Geti export, too: annotations/SUBSET.json, boxes in pixels from 0."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat

from detector.datasets.issues import Report
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
from detector.datasets.readers.shapes import Corners, box_around, box_around_ellipse, centered_box, corners_of
from detector.datasets.records import UNSPLIT, Export, Record, split_name
from detector.datasets.text import read_json

_WITHOUT_BOX = ("label", "caption", "hash_key", "feature_vector", "tabular")


class _Item(Entry):
    id: Name
    annotations: tuple[Any, ...] = ()
    image: dict[str, Any] | None = None
    media: dict[str, Any] | None = None


class _Annotation(Entry):
    type: str
    label_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None
    points: tuple[FiniteFloat, ...] = ()
    attributes: Any = None


class _RotatedBox(Entry):
    cx: FiniteFloat
    cy: FiniteFloat
    w: FiniteFloat
    h: FiniteFloat
    r: FiniteFloat


def is_datumaro(path: Path) -> bool:
    """Return whether a JSON file has Datumaro's categories and items."""
    ends = ends_of(path)
    return b'"items"' in ends and b'"categories"' in ends and b'"annotations"' in ends


def read_datumaro(root: Path, files: Sequence[Path], paths: Sequence[Path], report: Report) -> Export:
    """Read the files ``paths``, whose images are among ``files``. Each is a split, named after its file.

    Crowds (``is_crowd``) count as difficult. Raises ValueError, naming the file, for one that is not Datumaro's.
    """

    def read(path: Path) -> Content:
        content = as_dict(read_json(path), f"{path}: the file")
        names = _class_names(content, path)
        items = as_list(content.get("items"), f"{path}: items")
        records = read_images(path, items, lambda item: _record(item, names, path, report), report)
        subset = UNSPLIT if path.stem == "default" or len(paths) == 1 else split_name(path.stem)
        return Content(records, names, [subset] * len(records))

    return read_files("Datumaro JSON", root, files, paths, read)


def _class_names(content: dict[str, Any], path: Path) -> list[str]:
    categories = as_dict(content.get("categories"), f"{path}: categories")
    label = as_dict(categories.get("label"), f"{path}: categories.label")
    labels = as_list(label.get("labels"), f"{path}: categories.label.labels")
    try:
        return [checked(_Label, each).name for each in labels]
    except ValueError as error:
        raise ValueError(f"{path}: categories.label.labels: {error}") from None


class _Label(Entry):
    name: Name


def _record(content: object, names: Sequence[str], path: Path, report: Report) -> Record:
    item = checked(_Item, content)
    image = item.image or item.media or {}
    name = image.get("path")
    shapes = [each for each in item.annotations if not (isinstance(each, dict) and each.get("type") in _WITHOUT_BOX)]

    def read(annotation: object) -> Boxed:
        each = checked(_Annotation, annotation)
        if not 0 <= each.label_id < len(names):
            raise ValueError(f"there is no label {each.label_id}, only 0 to {len(names) - 1}")
        is_crowd = isinstance(each.attributes, dict) and each.attributes.get("is_crowd") is True
        return Boxed(names[each.label_id], _box(each, annotation), is_crowd)

    objects, complete = read_objects(f"{path}: {item.id}", shapes, read, report)
    # images lie in a folder of the subset
    folder = path.parent.parent / "images"
    near = (folder / path.stem, *near_folders(path))
    size = image.get("size")
    height, width = size if isinstance(size, list) and len(size) == 2 else (None, None)
    record = Record((item.id,), path, near, objects, size_of(width, height), complete=complete)
    return replace(record, names=(name, item.id)) if isinstance(name, str) and name else record


def _box(each: _Annotation, annotation: object) -> Corners:
    if each.type == "bbox":
        if each.bbox is None:
            raise ValueError("has no bbox")
        return corners_of(*each.bbox)
    if each.type == "rotated_bbox":
        box = checked(_RotatedBox, annotation)
        return centered_box(box.cx, box.cy, box.w, box.h, box.r)
    if each.type == "ellipse" and len(each.points) == 4:
        x1, y1, x2, y2 = each.points
        return box_around_ellipse((x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2)
    if each.points and len(each.points) % 2 == 0:
        return box_around(zip(each.points[::2], each.points[1::2], strict=True))
    if each.bbox is not None:
        return corners_of(*each.bbox)
    raise ValueError(f"has no box that is read: it is of the type {each.type[:40]!r}")
