"""CSV files with a row for each box, in pixels from 0.

With a header, as TensorFlow's object detection, VoTT and Roboflow write it, columns go by their names. Without one, as
keras-retinanet reads it, a row is `path,x1,y1,x2,y2,class`, and one with empty fields is an image without objects;
make-sense writes `class,x,y,width,height,image,image width,image height`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path, PurePosixPath

from pydantic import FiniteFloat

from detector.datasets.image_finder import path_parts
from detector.datasets.issues import Report
from detector.datasets.readers.entries import (
    Boxed,
    Content,
    Entry,
    Name,
    checked,
    near_folders,
    read_files,
    read_objects,
    size_of,
)
from detector.datasets.readers.shapes import box_around, corners_of
from detector.datasets.records import Export, Record
from detector.datasets.text import read_csv
from detector.images.files import SUFFIXES

_COLUMNS = {
    "image": (
        *("filename", "file_name", "image", "image_name", "imagename", "path", "image_path", "img_path", "filepath"),
        *("file", "image_id", "frame"),
    ),
    "label": ("class", "label", "label_name", "class_name", "classname", "category", "name", "class_id"),
    "x1": ("xmin", "x1", "x_min", "xtl", "left"),
    "y1": ("ymin", "y1", "y_min", "ytl", "top"),
    "x2": ("xmax", "x2", "x_max", "xbr", "right"),
    "y2": ("ymax", "y2", "y_max", "ybr", "bottom"),
    "x": ("bbox_x", "x"),
    "y": ("bbox_y", "y"),
    "box_width": ("bbox_width", "bbox_w", "w"),
    "box_height": ("bbox_height", "bbox_h", "h"),
    "width": ("width", "image_width", "img_width"),
    "height": ("height", "image_height", "img_height"),
}
"""Names of the columns, in any case."""

_CORNERS, _SIDES = ("x1", "y1", "x2", "y2"), ("x", "y", "box_width", "box_height")
_HEADERLESS = (("image", *_CORNERS, "label"), ("label", *_SIDES, "image", "width", "height"))
_SAMPLED = 20  # rows that show the columns of a file without a header
_MAX_CLASSES = 100_000

Row = Mapping[str, str]


class _Corners(Entry):
    label: Name
    x1: FiniteFloat
    y1: FiniteFloat
    x2: FiniteFloat
    y2: FiniteFloat


class _Sides(Entry):
    label: Name
    x: FiniteFloat
    y: FiniteFloat
    box_width: FiniteFloat
    box_height: FiniteFloat


def is_box_table(path: Path) -> bool:
    """Return whether a CSV file has the columns of boxes, or keras-retinanet's rows."""
    try:
        rows = [*islice(read_csv(path), _SAMPLED)]
    except ValueError:
        return False
    return bool(rows) and _columns(rows) is not None


def read_box_tables(root: Path, files: Sequence[Path], paths: Sequence[Path], report: Report) -> Export:
    """Read the files ``paths``, whose images are among ``files``.

    keras-retinanet's classes are those of its file of classes, such as classes.csv with `name,number`, if there is one.
    Raises ValueError, naming the file, for one that is not CSV.
    """
    listed = _listed_classes([path for path in files if path not in paths])

    def read(path: Path) -> Content:
        by_image: dict[str, list[Row]] = {}
        for row in _rows(path):
            by_image.setdefault(row["image"].strip(), []).append(row)
        records = [_record(name, rows, path, report) for name, rows in by_image.items() if name]
        corners = [each.box for record in records for each in record.objects or ()]
        if corners and max(map(max, corners)) <= 1:  # some programs write fractions of the image
            records = [replace(record, normalized=True) for record in records]
        return Content(records, listed)

    return read_files("CSV of boxes", root, files, paths, read)


def _columns(rows: Sequence[Sequence[str]]) -> dict[str, int] | None:
    """Return the column of each value, by the header or by the first rows; None for a file that is no list of boxes."""
    if columns := _header(rows[0]):
        return columns
    filled = [row for row in rows if row]
    fitting = (columns for columns in _HEADERLESS if filled and all(_fits(row, columns) for row in filled))
    return next(({key: number for number, key in enumerate(columns)} for columns in fitting), None)


def _header(row: Sequence[str]) -> dict[str, int] | None:
    names = [name.strip().lower() for name in row]
    found = {key: next((name for name in usual if name in names), None) for key, usual in _COLUMNS.items()}
    columns = {key: names.index(name) for key, name in found.items() if name is not None}
    complete = columns.keys() >= {"image", "label"} and any(columns.keys() >= {*each} for each in (_CORNERS, _SIDES))
    return columns if complete else None


def _fits(row: Sequence[str], columns: Sequence[str]) -> bool:
    """Return whether a row has an image, and a class and numbers or nothing else, where ``columns`` say."""
    if len(row) != len(columns):
        return False
    values = dict(zip(columns, (value.strip() for value in row), strict=True))
    image, label = values.pop("image"), values.pop("label")
    if PurePosixPath(path_parts(image)[-1].lower()).suffix not in SUFFIXES:
        return False
    return not any((label, *values.values())) or (bool(label) and all(map(_is_number, values.values())))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _rows(path: Path) -> Iterator[Row]:
    rows = read_csv(path)
    first = [*islice(rows, _SAMPLED)]
    columns = _columns(first) if first else None
    if columns is None:
        raise ValueError(f"{path}: must have a header with the columns of boxes, or the rows of keras-retinanet")
    for row in chain(first[1:] if _header(first[0]) else first, rows):
        if any(value.strip() for value in row):
            yield {key: row[column] if column < len(row) else "" for key, column in columns.items()}


def _listed_classes(files: Sequence[Path]) -> list[str]:
    """Return the classes of a file of `name,number`, by number; none without one."""
    for path in files:
        if path.suffix.lower() == ".csv" and "class" in path.stem.lower():
            rows = [[value.strip() for value in row] for row in islice(read_csv(path), _MAX_CLASSES) if row]
            if rows and all(len(row) == 2 and row[0] and row[1].isdecimal() for row in rows):
                return [name for name, _ in sorted(rows, key=lambda row: int(row[1]))]
    return []


def _record(name: str, rows: Sequence[Row], path: Path, report: Report) -> Record:
    boxed = [row for row in rows if any(row.get(key, "").strip() for key in (*_CORNERS, *_SIDES, "label"))]
    objects, complete = read_objects(f"{path}: {name}", boxed, _object, report)
    size = size_of(rows[0].get("width"), rows[0].get("height"))
    return Record((name,), path, near_folders(path), objects, size, complete=complete)


def _object(row: Row) -> Boxed:
    if "x1" in row:
        each = checked(_Corners, row)
        return Boxed(each.label, box_around([(each.x1, each.y1), (each.x2, each.y2)]))
    box = checked(_Sides, row)
    return Boxed(box.label, corners_of(box.x, box.y, box.box_width, box.box_height))
