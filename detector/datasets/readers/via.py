"""VIA's (VGG Image Annotator, version 1 and 2) JSON of a project or of its annotations, and its CSV.

Shapes are in pixels from 0. Regions have attributes of any name; one of them is the class.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat

from detector.datasets.issues import Report
from detector.datasets.readers.entries import (
    Boxed,
    Content,
    Entry,
    Name,
    Rectangle,
    as_dict,
    checked,
    ends_of,
    near_folders,
    read_files,
    read_images,
    read_objects,
)
from detector.datasets.readers.shapes import Corners, box_around, box_around_ellipse, corners_of
from detector.datasets.records import Export, Record
from detector.datasets.text import read_csv, read_json

UNNAMED = "object"
"""Class of the regions of a file in which none has an attribute."""

_CLASS = ("class", "label", "category", "class_name", "classname", "class name")
_WEAK = ("type", "object", "name", "species", "tag")
"""Usual names of the attribute for the class; the weak ones also have other uses."""


class _Circle(Entry):
    cx: FiniteFloat
    cy: FiniteFloat
    r: FiniteFloat


class _Ellipse(Entry):
    cx: FiniteFloat
    cy: FiniteFloat
    rx: FiniteFloat
    ry: FiniteFloat
    theta: FiniteFloat = 0  # radians


class _Outline(Entry):
    all_points_x: list[FiniteFloat]
    all_points_y: list[FiniteFloat]


class _Image(Entry):
    filename: Name
    regions: tuple[Any, ...] | dict[str, Any] = ()
    """By number in version 1."""


def is_via(path: Path) -> bool:
    """Return whether a JSON or CSV file has the keys or columns of VIA 1 or 2."""
    ends = ends_of(path)
    if path.suffix.lower() == ".csv":
        return b"region_shape_attributes" in ends.partition(b"\n")[0]
    images = b'"regions"' in ends and (b'"file_attributes"' in ends or b'"region_attributes"' in ends)
    return b'"_via_img_metadata"' in ends or images


def read_via(root: Path, files: Sequence[Path], paths: Sequence[Path], report: Report) -> Export:
    """Read the files ``paths``, whose images are among ``files``.

    The class is the attribute with a usual name such as class or type, else one with a list of options, else the most
    frequent one. Listed images without regions have no objects. Raises ValueError, naming the file, for one that is not
    VIA's.
    """

    def read(path: Path) -> Content:
        images: list[object]
        attributes: dict[str, Any] = {}
        if path.suffix.lower() == ".csv":
            images = _table(path)
        else:
            content = as_dict(read_json(path), f"{path}: the file")
            images = [*as_dict(content.get("_via_img_metadata", content), f"{path}: _via_img_metadata").values()]
            attributes = _region_attributes(content)
        key = _class_attribute(images, attributes)
        records = read_images(path, images, lambda image: _record(image, key, path, report), report)
        note = (f"{path}: the class of a region is its attribute {key!r}",) if key and key.lower() not in _CLASS else ()
        return Content(records, _options(attributes.get(key or "")), notes=note)

    return read_files("VIA", root, files, paths, read)


def _table(path: Path) -> list[object]:
    """Return the rows of a CSV file as entries of the JSON file. Raises ValueError for a file without the columns."""
    rows = read_csv(path)
    header = [name.strip().lstrip("#") for name in next(rows, [])]
    columns = ("filename", "region_shape_attributes", "region_attributes")
    if missing := [name for name in columns if name not in header]:
        raise ValueError(f"{path}: there is no column {missing[0]}")
    images: dict[str, list[object]] = defaultdict(list)
    for row in rows:
        cells = dict(zip_longest(header, row[: len(header)]))
        name = (cells["filename"] or "").strip()
        if not name:
            continue
        regions = images[name]
        # of an image without regions; a row that ends before is reported
        if (region := _json(cells["region_shape_attributes"])) != {}:
            regions.append({"shape_attributes": region, "region_attributes": _json(cells["region_attributes"])})
    return [{"filename": name, "regions": regions} for name, regions in images.items()]


def _json(text: str | None) -> object:
    """Return the content of a cell; what is there, which is then reported, if it is not JSON."""
    if text is None:
        return None
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text


def _region_attributes(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of regions that a project defines, by name."""
    attributes = content.get("_via_attributes")
    regions = attributes.get("region") if isinstance(attributes, dict) else None
    return regions if isinstance(regions, dict) else {}


def _options(attribute: object) -> list[str]:
    """Return the values that a project offers for an attribute, in their order."""
    if not isinstance(attribute, dict) or attribute.get("type") == "checkbox":
        return []
    options = attribute.get("options")
    return [name.strip() for name in options if name.strip()] if isinstance(options, dict) else []


def _class_attribute(images: Iterable[object], attributes: Mapping[str, Any]) -> str | None:
    """Return the attribute that names the class; None if no region has any."""
    counts: Counter[str] = Counter()
    for image in images:
        for region in _regions(image):
            values = region.get("region_attributes") if isinstance(region, dict) else None
            if isinstance(values, dict):
                counts.update(name for name, value in values.items() if _value(value))
    if not counts:
        return None

    most = max(counts.values())

    def order(name: str) -> tuple[bool, int, bool, int, int]:
        strong, weak = (names.index(name.lower()) if name.lower() in names else len(names) for names in (_CLASS, _WEAK))
        return counts[name] < most / 2, strong, not _options(attributes.get(name)), weak, -counts[name]

    return min(counts, key=order)


def _regions(image: object) -> list[object]:
    regions = image.get("regions") if isinstance(image, dict) else None
    return [*regions.values()] if isinstance(regions, dict) else regions if isinstance(regions, list) else []


def _value(value: object) -> str:
    """Return the text of an attribute; of check boxes the name of the only one that is set."""
    if isinstance(value, dict):
        names = [name for name, is_set in value.items() if is_set is True]
        return names[0].strip() if len(names) == 1 else ""
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _record(entry: object, key: str | None, path: Path, report: Report) -> Record:
    image = checked(_Image, entry)

    def read(region: object) -> Boxed:
        content = as_dict(region, "a region")
        name = UNNAMED
        if key is not None:
            name = _value(as_dict(content.get("region_attributes"), "region_attributes").get(key))
        if not name:
            raise ValueError(f"has no {key}")
        return Boxed(name, _box(as_dict(content.get("shape_attributes"), "shape_attributes")))

    objects, complete = read_objects(f"{path}: {image.filename}", _regions(entry), read, report)
    return Record((image.filename,), path, near_folders(path), objects, complete=complete)


def _box(shape: Mapping[str, Any]) -> Corners:
    kind = shape.get("name")
    if kind == "rect":
        box = checked(Rectangle, shape)
        return corners_of(box.x, box.y, box.width, box.height)
    if kind == "circle":
        circle = checked(_Circle, shape)
        return box_around_ellipse(circle.cx, circle.cy, circle.r, circle.r)
    if kind == "ellipse":
        ellipse = checked(_Ellipse, shape)
        return box_around_ellipse(ellipse.cx, ellipse.cy, ellipse.rx, ellipse.ry, math.degrees(ellipse.theta))
    if kind in ("polygon", "polyline"):
        outline = checked(_Outline, shape)
        if len(outline.all_points_x) != len(outline.all_points_y):
            raise ValueError("all_points_x and all_points_y must be of one length")
        return box_around(zip(outline.all_points_x, outline.all_points_y, strict=True))
    raise ValueError("a point has no box" if kind == "point" else f"is of the unknown shape {str(kind)[:80]!r}")
