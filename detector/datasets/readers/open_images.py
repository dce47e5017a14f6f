"""Open Images' CSV: a row for each box, corners as fractions of the image, classes as codes such as /m/01yrx."""

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from detector.datasets.dataset import Object
from detector.datasets.image_finder import images_among, path_parts
from detector.datasets.issues import Issue, IssueKind, Report
from detector.datasets.records import Export, Record, split_in_name, split_of_folder
from detector.datasets.text import read_csv
from detector.images.files import SUFFIXES

_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
_CODE = re.compile(r"^/[mgt]/\w+$")


def is_open_images(path: Path) -> bool:
    """Return whether the first line of a CSV file names the columns of boxes."""
    try:
        return set(_COLUMNS) <= set(next(read_csv(path), ()))
    except ValueError:
        return False


def read_open_images(root: Path, files: Sequence[Path], paths: Sequence[Path], report: Report) -> Export:
    """Read the boxes of the CSV files ``paths`` in images below ``root``, skipping those of other images.

    A group in one box (IsGroupOf) counts as difficult. Class names are those of a file of descriptions
    (class-descriptions-boxable.csv), else the codes.
    """
    images = images_among(files)
    here = {path.stem for path in images}
    names = _descriptions(files, paths)
    splits: dict[str, list[Record]] = {}
    others: set[str] = set()
    for path in paths:
        found: dict[str, list[Object]] = {}
        incomplete: set[str] = set()
        for source, row in _rows(path):
            image_id = _image_id(row)
            if image_id not in here:
                others.add(image_id)
                continue
            objects = found.setdefault(image_id, [])
            try:
                each = _object(source, row, names, report)
            except ValueError as error:
                report(Issue(IssueKind.BAD_OBJECT, f"{source}: {error}"))
                incomplete.add(image_id)
                continue
            if each is not None:
                objects.append(each)
        near = (path.parent, path.parent / "data", path.parent.parent / "data")
        splits.setdefault(split_in_name(path.stem) or split_of_folder(path.parent, root), []).extend(
            Record((image_id,), path, near, objects, normalized=True, complete=image_id not in incomplete)
            for image_id, objects in found.items()
        )
    if not any(splits.values()):
        raise ValueError(f"{paths[0]}: none of its images is below {root}")
    kept = {name: records for name, records in splits.items() if records}
    skipped = f", without the boxes of {len(others)} missing images" if others else ""
    return Export(f"Open Images CSV{skipped}", root, images, kept)


def _image_id(row: dict[str, str]) -> str:
    """Return the id of a row's image; some programs write its file name."""
    name = path_parts(row["ImageID"].strip())[-1]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot + suffix.lower() in SUFFIXES else name


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    rows = read_csv(path)
    header = [name.strip() for name in next(rows)]
    for number, row in enumerate(rows, 1):
        if row:
            yield f"{path}: object {number}", dict(zip_longest(header, row[: len(header)], fillvalue=""))


def _descriptions(files: Sequence[Path], boxes: Sequence[Path]) -> dict[str, str]:
    """Return class names by code, from all files whose first column holds codes."""
    names: dict[str, str] = {}
    for path in files:
        if path.suffix.lower() != ".csv" or path in boxes or "class" not in path.stem.lower():
            continue
        names |= {row[0]: row[1].strip() for row in read_csv(path) if len(row) > 1 and _CODE.match(row[0])}
    return names


def _object(source: str, row: dict[str, str], names: dict[str, str], report: Report) -> Object | None:
    """Return the object of a row; report an empty box and return None. Raises ValueError for an unreadable one."""
    code = row["LabelName"].strip()
    try:
        x1, x2, y1, y2 = (float(row[column]) for column in ("XMin", "XMax", "YMin", "YMax"))
    except ValueError:
        raise ValueError("XMin, XMax, YMin and YMax must be numbers") from None
    if not code:
        raise ValueError("LabelName is empty")
    if not all(-1 <= corner <= 2 for corner in (x1, x2, y1, y2)):
        raise ValueError("corners must be fractions of the image from 0 to 1")
    if x1 == x2 or y1 == y2:
        report(Issue(IssueKind.EMPTY_BOX, f"{source}: the box is empty: {x1:g}, {y1:g}, {x2:g}, {y2:g}"))
        return None
    box = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    group = row.get("IsGroupOf", "").strip().lower() in ("1", "true")
    return Object(source, names.get(code) or code, box, group)
