"""VoTT's JSON: the export of a project, and the file of each asset that it keeps beside the images. Pixels from 0."""

from collections.abc import Sequence
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
    checked,
    ends_of,
    near_folders,
    read_files,
    read_images,
    read_objects,
    size_of,
)
from detector.datasets.readers.shapes import Corners, box_around, corners_of
from detector.datasets.records import Export, Record
from detector.datasets.text import read_json

_NOT_VISITED = 0  # state of an asset that nobody opened


class _Asset(Entry):
    name: Name
    path: str = ""
    size: Any = None
    state: Any = None


class _Box(Entry):
    left: FiniteFloat
    top: FiniteFloat
    width: FiniteFloat
    height: FiniteFloat


class _Point(Entry):
    x: FiniteFloat
    y: FiniteFloat


class _Region(Entry):
    tags: list[Name]
    boundingBox: _Box | None = None  # noqa: N815
    points: tuple[_Point, ...] = ()


class _Entry(Entry):
    asset: _Asset
    regions: tuple[Any, ...] = ()


def is_vott(path: Path) -> bool:
    """Return whether a JSON file is an export or an asset of VoTT."""
    ends = ends_of(path)
    return b'"asset"' in ends and (b'"regions"' in ends or b'"assets"' in ends)


def read_vott(root: Path, files: Sequence[Path], paths: Sequence[Path], report: Report) -> Export:
    """Read the files ``paths``, whose images are among ``files``. A region counts once for each of its tags.

    Assets that were visited, but have no regions, have no objects; those that were not are unlabeled. An asset's own
    file does not count where an export has the asset. Raises ValueError, naming the file, for one that is not VoTT's.
    """
    contents = {path: as_dict(read_json(path), f"{path}: the file") for path in paths}
    exports = [path for path in paths if "assets" in contents[path]]
    there = {str(key) for path in exports for key in as_dict(contents[path]["assets"], f"{path}: assets")}

    def read(path: Path) -> Content:
        content = contents[path]
        entries = content["assets"].values() if path in exports else [content]
        tags = content.get("tags")
        names = [str(tag["name"]) for tag in tags if isinstance(tag, dict) and tag.get("name")] if tags else []
        return Content(read_images(path, entries, lambda entry: _record(entry, path, report), report), names)

    own = [path for path in paths if path not in exports and path.stem.removesuffix("-asset") not in there]
    return read_files("VoTT JSON", root, files, [*exports, *own], read)


def _record(content: object, path: Path, report: Report) -> Record:
    entry = checked(_Entry, content)
    names = (entry.asset.name, entry.asset.path) if entry.asset.path else (entry.asset.name,)
    if not entry.regions and entry.asset.state == _NOT_VISITED:
        return Record(names, path, near_folders(path), None)
    size = entry.asset.size if isinstance(entry.asset.size, dict) else {}
    objects, complete = read_objects(f"{path}: {entry.asset.name}", entry.regions, _objects, report)
    sides = size_of(size.get("width"), size.get("height"))
    return Record(names, path, near_folders(path), objects, sides, complete=complete)


def _objects(content: object) -> list[Boxed]:
    region = checked(_Region, content)
    if not region.tags:
        raise ValueError("has no tag")
    return [Boxed(tag, _box(region)) for tag in region.tags]


def _box(region: _Region) -> Corners:
    if region.boundingBox is None:
        return box_around([(point.x, point.y) for point in region.points])
    box = region.boundingBox
    return corners_of(box.left, box.top, box.width, box.height)
