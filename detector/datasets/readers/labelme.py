"""LabelMe's JSON: a file for each image, with shapes in pixels. X-AnyLabeling and ISAT-like tools write it, too."""

import base64
import binascii
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat

from detector.datasets.image_finder import images_among, path_parts
from detector.datasets.issues import Issue, IssueKind, Report
from detector.datasets.readers.entries import (
    Boxed,
    Entry,
    Name,
    as_dict,
    as_list,
    checked,
    ends_of,
    near_folders,
    read_objects,
    size_of,
)
from detector.datasets.readers.shapes import Corners, box_around, box_around_ellipse
from detector.datasets.records import Export, Record, split_of_folder
from detector.datasets.split_lists import assign_splits
from detector.datasets.text import read_json
from detector.images.files import SUFFIXES

_KEYS = (b'"shapes"', b'"imagePath"', b'"imageData"', b'"imageHeight"')


class _Shape(Entry):
    label: Name
    points: list[tuple[FiniteFloat, FiniteFloat]]
    shape_type: str | None = None  # old versions draw polygons alone, and write no type
    group_id: Any = None
    difficult: Any = None  # of X-AnyLabeling
    flags: Any = None


def is_labelme(path: Path) -> bool:
    """Return whether a JSON file has the keys of LabelMe; a large embedded image may hide some of them."""
    ends = ends_of(path)
    return sum(key in ends for key in _KEYS) >= 2


def read_labelme(root: Path, files: Sequence[Path], paths: Sequence[Path], report: Report) -> Export:
    """Read the files ``paths``, whose images are among ``files``, else embedded.

    Splits are those of lists of images such as train.txt, else of folders. Embedded images are written to a temporary
    folder, which is deleted at exit. Raises ValueError where no file is readable.
    """
    images = images_among(files)
    stems = {path.stem.casefold() for path in images}
    assigned = assign_splits(files, paths)
    splits: dict[str, list[Record]] = {}
    embedded = _EmbeddedImages(root)
    first: str | None = None
    for path in paths:
        try:
            content = as_dict(read_json(path), f"{path}: the file")
            record = _record(content, path, report)
        except ValueError as error:
            first = first or str(error)
            report(Issue(IssueKind.BAD_ANNOTATION, str(error)))
            continue
        if stems.isdisjoint(Path(path_parts(name)[-1]).stem.casefold() for name in (path.name, *record.names)):
            record = embedded.attach(record, content.get("imageData"))
        split = assigned.splits.get(path) or split_of_folder(path.parent, root)
        splits.setdefault(split, []).append(record)
    if not splits:
        raise ValueError(f"{root}: none of the LabelMe files can be read: {first}")
    note = (f"{root}: {embedded.count} images are taken from the JSON files",) if embedded.count else ()
    return Export("LabelMe JSON", root, images, splits, notes=(*assigned.notes, *note))


def _record(content: dict[str, Any], path: Path, report: Report) -> Record:
    shapes = as_list(content.get("shapes"), f"{path}: shapes")
    name = content.get("imagePath")
    # a path of another machine, which is not changed where files are renamed together
    names = (path.stem, name) if isinstance(name, str) and name.strip() else (path.stem,)
    boxed_groups = {_group(shape) for shape in shapes if _kind(shape) != "point"} - {None}
    # a key point belongs to the box of its group
    own = [shape for shape in shapes if _kind(shape) != "point" or _group(shape) not in boxed_groups]
    objects, complete = read_objects(str(path), own, _object, report)
    size = size_of(content.get("imageWidth"), content.get("imageHeight"))
    return Record(names, path, near_folders(path), objects, size, complete=complete)


def _kind(shape: object) -> object:
    return shape.get("shape_type") if isinstance(shape, dict) else None


def _group(shape: object) -> object:
    group = shape.get("group_id") if isinstance(shape, dict) else None
    return group if isinstance(group, int | str) else None


def _object(entry: object) -> Boxed:
    shape = checked(_Shape, entry)
    flagged = isinstance(shape.flags, dict) and shape.flags.get("difficult") is True
    return Boxed(shape.label, _box(shape), flagged or shape.difficult is True)


def _box(shape: _Shape) -> Corners:
    points = shape.points
    if shape.shape_type == "circle":  # its center, and a point on it
        if len(points) != 2:
            raise ValueError(f"a circle must have 2 points, but has {len(points)}")
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return box_around_ellipse(x, y, radius, radius)
    x1, y1, x2, y2 = box_around(points)
    # corners of a mask are its first and last pixels
    return (x1, y1, x2 + 1, y2 + 1) if shape.shape_type == "mask" else (x1, y1, x2, y2)


class _EmbeddedImages:
    """Writes images that only annotation files hold to a temporary folder.

    root: the folder of the export, which names the images.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder: Path | None = None
        self.count = 0

    def attach(self, record: Record, data: object) -> Record:
        """Return the record with its embedded image, unchanged if there is none."""
        if not isinstance(data, str) or not data:
            return record
        try:
            content = base64.b64decode(data.rpartition(",")[2], validate=True)
        except (binascii.Error, ValueError):
            return record
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="spp-detector-"))
            # at the end of this process, not of those that it forks
            Finalize(None, shutil.rmtree, (self._folder, True), exitpriority=0)
        self.count += 1
        suffix = Path(path_parts(record.names[-1])[-1]).suffix.lower()
        suffix = suffix if suffix in SUFFIXES else ".png"
        path = self._folder / str(self.count) / f"{record.source.stem}{suffix}"
        path.parent.mkdir()
        path.write_bytes(content)
        image_id = record.source.relative_to(self._root).with_suffix("").as_posix()
        return replace(record, path=path, image_id=image_id)
