"""Validate entries of annotation files, and turn them into objects, records and exports."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, FiniteFloat, StringConstraints, ValidationError

from detector.datasets.dataset import Object
from detector.datasets.image_finder import images_among
from detector.datasets.issues import Issue, IssueKind, Report
from detector.datasets.readers.shapes import Corners
from detector.datasets.records import UNSPLIT, Export, Record, split_in_name, split_of_folder

T = TypeVar("T")
E = TypeVar("E", bound="Entry")
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""Name of a class or an image."""

_START = 1 << 16  # bytes at either end of a file that show its format
_MAX_SHOWN = 80  # letters of a value in a message


class Entry(BaseModel):
    """An entry of an annotation file; keys that are not named are ignored, numbers may be written as text."""

    model_config = ConfigDict(coerce_numbers_to_str=True, frozen=True)


class Size(Entry):
    """Width and height of an image, in pixels."""

    width: FiniteFloat
    height: FiniteFloat


class Rectangle(Entry):
    """A corner or the center of a box, and its sides."""

    x: FiniteFloat
    y: FiniteFloat
    width: FiniteFloat
    height: FiniteFloat


class Boxed(NamedTuple):
    """An object as its entry describes it; `Object` adds its place in the file."""

    class_name: str
    box: Corners
    difficult: bool = False


def ends_of(path: Path) -> bytes:
    """Return the first and the last 64 KiB of a file, without the zeros of UTF-16."""
    status = path.stat()
    return _ends(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)  # each format in turn looks for its marks in the same file
def _ends(path: Path, size: int, changed: int) -> bytes:
    with path.open("rb") as file:
        start = file.read(_START)
        file.seek(max(len(start), size - _START))
        return (start + b"\n" + file.read(_START)).replace(b"\0", b"")


def is_list(ends: bytes) -> bool:
    """Return whether a JSON file with these `ends_of` holds a list."""
    return ends.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"[")


def checked(kind: type[E], value: object) -> E:
    """Return ``value`` as an entry of that kind. Raises ValueError, in one line, for one that is none."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        given = "" if first["type"] == "missing" else f", but got {_shown(first['input'])}"
        raise ValueError(f"{place}{': ' if place else ''}{first['msg'].lower()}{given}") from None


def as_list(value: object, what: str) -> list[Any]:
    """Return a list as it is. Raises ValueError, naming it, for anything else."""
    if not isinstance(value, list):
        raise ValueError(f"{what} must be a list, but got {_shown(value)}")
    return value


def as_dict(value: object, what: str) -> dict[str, Any]:
    """Return a mapping as it is. Raises ValueError, naming it, for anything else."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a mapping, but got {_shown(value)}")
    return value


def read_objects(
    source: str, entries: Iterable[T], read: Callable[[T], Boxed | Sequence[Boxed]], report: Report
) -> tuple[list[Object], bool]:
    """Return the objects of an image, and whether all could be read; report those with issues.

    source: the file, and the image in it where it holds several. read: returns the objects of an entry, and raises
    ValueError for one that it cannot read.
    """
    objects, complete = [], True
    for number, entry in enumerate(entries, 1):
        place = f"{source}: object {number}"
        try:
            found = read(entry)
            boxed = [found] if isinstance(found, Boxed) else [*found]
            if not all(math.isfinite(corner) for each in boxed for corner in each.box):
                raise ValueError("corners must be finite numbers")
        except ValueError as error:
            report(Issue(IssueKind.BAD_OBJECT, f"{place}: {error}"))
            complete = False
            continue
        for each in boxed:
            x1, y1, x2, y2 = each.box
            if x1 < x2 and y1 < y2:
                objects.append(Object(place, each.class_name, each.box, each.difficult))
            else:
                report(Issue(IssueKind.EMPTY_BOX, f"{place}: the box is empty: {x1:g}, {y1:g}, {x2:g}, {y2:g}"))
    return objects, complete


def read_images(path: Path, entries: Iterable[T], read: Callable[[T], Record], report: Report) -> list[Record]:
    """Return the records of a file's images; report entries for which ``read`` raises ValueError."""
    records = []
    for number, entry in enumerate(entries, 1):
        try:
            records.append(read(entry))
        except ValueError as error:
            report(Issue(IssueKind.BAD_ANNOTATION, f"{path}: image {number}: {error}"))
    return records


def near_folders(path: Path) -> tuple[Path, ...]:
    """Return the folders where tools put the images of an annotation file."""
    return (path.parent, path.parent / "images", path.parent.parent / "images")


def size_of(width: object, height: object) -> tuple[int, int] | None:
    """Return an annotated size; None for one that is missing or not positive."""
    try:
        size = checked(Size, {"width": width, "height": height})
    except ValueError:
        return None
    sides = (round(size.width), round(size.height))
    return sides if min(sides) > 0 else None


def split_of_file(path: Path, root: Path) -> str:
    """Return the split that an annotation file, or a folder above it, is named after."""
    return split_in_name(path.stem) or split_of_folder(path.parent, root)


class Content(NamedTuple):
    """Records of an annotation file.

    class_names: the classes that it lists, in its order. splits: that of each record, where the file names them. notes:
    lines about how it is read, for the log.
    """

    records: Sequence[Record]
    class_names: Sequence[str] = ()
    splits: Sequence[str] = ()
    notes: Sequence[str] = ()


def read_files(
    description: str,
    root: Path,
    files: Sequence[Path],
    paths: Sequence[Path],
    read: Callable[[Path], Content],
) -> Export:
    """Return what ``read`` returns for each of ``paths`` as one export, whose images are among ``files``.

    Splits are those of the contents, else those that the files, or folders above them, are named after. A file of all
    images often lies beside train_labels.csv and test_labels.csv, which were made of it: its images that these name
    are used there. Raises ValueError for files without images.
    """
    splits: dict[str, list[Record]] = {}
    listed: dict[str, None] = {}
    notes: list[str] = []
    for path in paths:
        content = read(path)
        notes += content.notes
        listed |= dict.fromkeys(content.class_names)
        own = content.splits or [UNSPLIT] * len(content.records)
        for split, record in zip(own, content.records, strict=True):
            splits.setdefault(split or split_of_file(path, root), []).append(record)
    if not splits:
        raise ValueError(f"{paths[0]}: lists no images")
    splits, union = _without_union(splits)
    records = (record for each in splits.values() for record in each)
    named = sorted({each.class_name for record in records for each in record.objects or ()})
    names = tuple(dict.fromkeys([*listed, *named])) if listed else None
    return Export(description, root, images_among(files), splits, names, notes=(*union, *notes))


def _without_union(splits: dict[str, list[Record]]) -> tuple[dict[str, list[Record]], tuple[str, ...]]:
    """Return splits without those records of none that another split has, too, and a note about them."""
    rest = {split: records for split, records in splits.items() if split != UNSPLIT}
    if not rest or len(rest) == len(splits):
        return splits, ()
    named = {record.names[0] for records in rest.values() for record in records}
    whole = splits[UNSPLIT]
    own = [record for record in whole if record.names[0] not in named]
    if own:
        rest[UNSPLIT] = own
    n_twice = len(whole) - len(own)
    where = " and ".join(sorted(rest.keys() - {UNSPLIT}))
    return rest, (f"{whole[0].source}: {n_twice} of its images are used in {where}",) if n_twice else ()


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
