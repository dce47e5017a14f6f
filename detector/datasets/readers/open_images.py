"""Open Images' CSV: a row for each box, corners as fractions of the image, classes as codes such as /m/01yrx."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from detector.datasets.dataset import Object
from detector.datasets.image_finder import images_among
from detector.datasets.issues import Issue, IssueKind, Report
from detector.datasets.records import Export, Record, split_in_name, split_of_folder

_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
_CODE = re.compile(r"^/[mgt]/\w+$")


def is_open_images(path: Path) -> bool:
    """Return whether the first line of a CSV file names the columns of boxes."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return set(_COLUMNS) <= set(file.readline(10_000).strip().split(","))


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
        for source, row in _rows(path):
            image_id = (row.get("ImageID") or "").strip()
            if image_id not in here:
                others.add(image_id)
                continue
            objects = found.setdefault(image_id, [])
            if (each := _object(source, row, names, report)) is not None:
                objects.append(each)
        near = (path.parent, path.parent / "data", path.parent.parent / "data")
        splits.setdefault(split_in_name(path.stem) or split_of_folder(path.parent, root), []).extend(
            Record((image_id,), path, near, objects, normalized=True) for image_id, objects in found.items()
        )
    if not any(splits.values()):
        raise ValueError(f"{paths[0]}: none of its images is below {root}")
    kept = {name: records for name, records in splits.items() if records}
    skipped = f", without the boxes of {len(others)} missing images" if others else ""
    return Export(f"Open Images CSV{skipped}", root, images, kept)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            for number, row in enumerate(csv.DictReader(file), 1):
                yield f"{path}: object {number}", row
        except csv.Error as error:
            raise ValueError(f"{path}: not a readable CSV file ({error})") from error


def _descriptions(files: Sequence[Path], boxes: Sequence[Path]) -> dict[str, str]:
    """Return class names by code, from all files whose first column holds codes."""
    names: dict[str, str] = {}
    for path in files:
        if path.suffix.lower() != ".csv" or path in boxes or "class" not in path.stem.lower():
            continue
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            try:
                names |= {row[0]: row[1].strip() for row in csv.reader(file) if len(row) > 1 and _CODE.match(row[0])}
            except csv.Error as error:
                raise ValueError(f"{path}: not a readable CSV file ({error})") from error
    return names


def _object(source: str, row: dict[str, str], names: dict[str, str], report: Report) -> Object | None:
    code = (row.get("LabelName") or "").strip()
    try:
        x1, x2, y1, y2 = (float(row[column]) for column in ("XMin", "XMax", "YMin", "YMax"))
    except (TypeError, ValueError):
        report(Issue(IssueKind.BAD_OBJECT, f"{source}: XMin, XMax, YMin and YMax must be numbers"))
        return None
    if not code:
        report(Issue(IssueKind.BAD_OBJECT, f"{source}: LabelName is empty"))
    elif not all(-1 <= corner <= 2 for corner in (x1, x2, y1, y2)):
        report(Issue(IssueKind.BAD_OBJECT, f"{source}: corners must be fractions of the image from 0 to 1"))
    elif x1 >= x2 or y1 >= y2:
        report(Issue(IssueKind.EMPTY_BOX, f"{source}: the box is empty: {x1:g}, {y1:g}, {x2:g}, {y2:g}"))
    else:
        group = (row.get("IsGroupOf") or "0").strip() == "1"
        return Object(source, names.get(code) or code, (x1, y1, x2, y2), group)
    return None
