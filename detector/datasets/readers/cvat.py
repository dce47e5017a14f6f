"""CVAT's own XML, version 1.1: "CVAT for images", a list of images, and "CVAT for video", a list of tracks.

Corners are in pixels from 0. Rotations are in degrees around the center of a shape.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

from pydantic import FiniteFloat

from detector.datasets.image_finder import images_among
from detector.datasets.issues import Issue, IssueKind, Report
from detector.datasets.readers.entries import (
    Boxed,
    Content,
    Entry,
    checked,
    ends_of,
    near_folders,
    read_files,
    read_images,
    read_objects,
    size_of,
)
from detector.datasets.readers.shapes import (
    Corners,
    box_around,
    box_around_ellipse,
    centered_box,
    corners_of,
)
from detector.datasets.records import UNSPLIT, Export, Record, split_name
from detector.runtime.optional import optional

_ROOT_TAG = re.compile(rb"<annotations[\s>]")
_MARKS = (b"<image ", b"<track ", b"<meta>", b"<version>")
_STEP = re.compile(r"step\s*=\s*(\d+)")
_FRAME_NAME = re.compile(r"frame_(\d{6,9})$", re.IGNORECASE)


class _Box(Entry):
    xtl: FiniteFloat
    ytl: FiniteFloat
    xbr: FiniteFloat
    ybr: FiniteFloat
    rotation: FiniteFloat = 0


class _Ellipse(Entry):
    cx: FiniteFloat
    cy: FiniteFloat
    rx: FiniteFloat
    ry: FiniteFloat
    rotation: FiniteFloat = 0


class _Mask(Entry):
    left: FiniteFloat
    top: FiniteFloat
    width: FiniteFloat
    height: FiniteFloat


class _Corner(Entry):
    x: FiniteFloat
    y: FiniteFloat


class _Shape(NamedTuple):
    """A shape in a frame: between two key frames, the part ``weight`` of the way from one element to the next."""

    class_name: str
    element: Element
    following: Element | None = None
    weight: float = 0


def is_cvat(path: Path) -> bool:
    """Return whether an XML file starts as CVAT's does."""
    ends = ends_of(path)
    return _ROOT_TAG.search(ends) is not None and any(mark in ends for mark in _MARKS)


def read_cvat(root: Path, files: Sequence[Path], paths: Sequence[Path], report: Report) -> Export:
    """Read the files ``paths``, whose images are among ``files``.

    Splits are the subsets of a project, else those that files or folders are named after. All listed images, and all
    frames of a video that are there, count as labeled. Raises ValueError, naming the file, for one that is not XML.
    """
    images = images_among(files)
    return read_files("CVAT XML", root, files, paths, lambda path: _read_file(path, images, report))


def _read_file(path: Path, images: Sequence[Path], report: Report) -> Content:
    names: list[str] = []
    tracks: list[Element] = []
    subsets: list[str] = []
    task = Element("task")

    def entries() -> Iterator[Element]:
        nonlocal task
        for element in _parts(path):
            if element.tag == "meta":
                labels = (label for label in element.iter("label") if not label.findtext("parent"))
                names.extend((label.findtext("name") or "").strip() for label in labels)
                task = next(element.iter("task"), next(element.iter("job"), task))
            elif element.tag == "image":
                yield element
            else:
                tracks.append(element)

    def read(element: Element) -> Record:
        record = _image(element, path, report)
        subset = element.get("subset") or ""
        subsets.append(UNSPLIT if subset.lower() == "default" else split_name(subset))
        return record

    records = read_images(path, entries(), read, report)
    if tracks:
        records += _video(tracks, task, path, images, report)
        subsets += [UNSPLIT] * (len(records) - len(subsets))
    return Content(records, [name for name in names if name], subsets)


def _parts(path: Path) -> Iterator[Element]:
    """Yield the meta, image and track elements of a file. Raises ValueError, naming it, for one that is not XML."""
    xml = optional("defusedxml.ElementTree", "train")
    top: Element | None = None
    depth = 0
    try:
        for event, element in xml.iterparse(path, ("start", "end")):
            depth += 1 if event == "start" else -1
            if top is None:
                top = element
            elif event == "end" and depth == 1:
                if element.tag in ("meta", "image", "track"):
                    yield element
                top.clear()  # what was read, whose number has no limit
    except (ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path}: not a readable XML file ({error})") from error


def _image(element: Element, path: Path, report: Report) -> Record:
    name = (element.get("name") or "").strip()
    if not name:
        raise ValueError("has no name")
    shapes = [_Shape(each.get("label") or "", each) for each in element if each.tag in _BOXES]
    objects, complete = read_objects(f"{path}: {name}", shapes, _object, report)
    size = size_of(element.get("width"), element.get("height"))
    return Record((name,), path, near_folders(path), objects, size, complete=complete)


def _video(
    tracks: Sequence[Element], task: Element, path: Path, images: Sequence[Path], report: Report
) -> list[Record]:
    """Return a record for each frame of a video that has an image or a shape."""
    names = _frame_names(task, images)
    frames = sorted(names)
    shapes: dict[int, list[_Shape]] = {frame: [] for frame in names}
    for track in tracks:
        class_name = track.get("label") or ""
        try:
            elements = sorted(((_frame(each), each) for each in track if each.tag in _BOXES), key=lambda each: each[0])
        except ValueError as error:
            report(Issue(IssueKind.BAD_ANNOTATION, f"{path}: track {track.get('id')}: {error}"))
            continue
        for frame, element in elements:
            if not _is_outside(element):
                shapes.setdefault(frame, []).append(_Shape(class_name, element))
        for (start, one), (end, two) in pairwise(elements):
            if not _is_outside(one):
                for frame in frames[bisect_right(frames, start) : bisect_left(frames, end)]:
                    shapes[frame].append(_Shape(class_name, one, two, (frame - start) / (end - start)))
    records = []
    for frame in sorted(shapes):
        objects, complete = read_objects(f"{path}: frame {frame}", shapes[frame], _object, report)
        name = names.get(frame, f"frame_{frame:06d}.png")
        records.append(Record((name,), path, near_folders(path), objects, complete=complete))
    return records


def _frame_names(task: Element, images: Sequence[Path]) -> dict[int, str]:
    """Return the names of the images of a video by the number of their frame.

    CVAT names them by it, frame_000012.png; else they are those of the task in their order, if there are as many.
    """
    numbered = {path: _FRAME_NAME.match(path.stem) for path in images}
    names = {int(found.group(1)): path.name for path, found in numbered.items() if found}
    if names:
        return names
    start, step = _number(task.findtext("start_frame")), _STEP.search(task.findtext("frame_filter") or "")
    stride = max(1, int(step.group(1))) if step else 1
    if _number(task.findtext("size")) != len(images):
        return {}
    return {start + stride * index: path.name for index, path in enumerate(sorted(images))}


def _number(text: str | None) -> int:
    return int(text) if text is not None and re.fullmatch(r"\d{1,9}", text) else 0


def _frame(element: Element) -> int:
    text = element.get("frame") or ""
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError(f"frame must be a number, but is {text!r}")
    return int(text)


def _is_outside(element: Element) -> bool:
    return element.get("outside") == "1"


def _object(shape: _Shape) -> Boxed:
    class_name = shape.class_name.strip()
    if not class_name:
        raise ValueError("label is empty")
    element = shape.element
    box = _BOXES[element.tag](element)
    if shape.following is not None:
        following = _BOXES[shape.following.tag](shape.following)
        x1, y1, x2, y2 = (one + (two - one) * shape.weight for one, two in zip(box, following, strict=True))
        box = (x1, y1, x2, y2)
    difficult = any(
        each.get("name", "").lower() == "difficult" and (each.text or "").strip().lower() in ("1", "true", "yes")
        for each in element.findall("attribute")
    )
    return Boxed(class_name, box, difficult)


def _box(element: Element) -> Corners:
    box = checked(_Box, element.attrib)
    x1, x2, y1, y2 = *sorted((box.xtl, box.xbr)), *sorted((box.ytl, box.ybr))
    if not box.rotation:
        return x1, y1, x2, y2
    return centered_box((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, box.rotation)


def _ellipse(element: Element) -> Corners:
    each = checked(_Ellipse, element.attrib)
    return box_around_ellipse(each.cx, each.cy, each.rx, each.ry, each.rotation)


def _mask(element: Element) -> Corners:
    each = checked(_Mask, element.attrib)
    return corners_of(each.left, each.top, each.width, each.height)


def _points_of(element: Element) -> list[tuple[float, float]]:
    """Return the points `x,y;x,y` of a polygon, a line, or key points."""
    points = []
    for pair in (element.get("points") or "").split(";"):
        x, _, y = pair.partition(",")
        try:
            points.append((float(x), float(y)))
        except ValueError:
            raise ValueError(f"points must be numbers, but got {pair[:80]!r}") from None
    return points


def _cuboid(element: Element) -> Corners:
    ends = [f"{side}{face}" for side in ("tl", "bl", "tr", "br") for face in (1, 2)]
    corners = (checked(_Corner, {"x": element.get(f"x{end}"), "y": element.get(f"y{end}")}) for end in ends)
    return box_around([(corner.x, corner.y) for corner in corners])


def _skeleton(element: Element) -> Corners:
    visible = (point for point in element.findall("points") if not _is_outside(point))
    return box_around([xy for point in visible for xy in _points_of(point)])


_BOXES: dict[str, Callable[[Element], Corners]] = {
    "box": _box,
    "polygon": lambda element: box_around(_points_of(element)),
    "polyline": lambda element: box_around(_points_of(element)),
    "points": lambda element: box_around(_points_of(element)),
    "ellipse": _ellipse,
    "mask": _mask,
    "cuboid": _cuboid,
    "skeleton": _skeleton,
}
"""The box of each kind of shape."""
