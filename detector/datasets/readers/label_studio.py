"""Label Studio's JSON: tasks with all annotations, and JSON_MIN: a row for each annotation, with the results by tag.

Coordinates are percentages of the image as the browser shows it. A rotated rectangle turns around its upper left
corner.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import FiniteFloat

from detector.datasets.image_finder import path_parts
from detector.datasets.issues import Report
from detector.datasets.readers.entries import (
    Boxed,
    Content,
    Entry,
    Rectangle,
    as_dict,
    as_list,
    checked,
    ends_of,
    near_folders,
    read_files,
    read_images,
    read_objects,
)
from detector.datasets.readers.shapes import Corners, box_around, box_around_ellipse, turned_at_corner
from detector.datasets.records import Export, Record
from detector.datasets.text import read_json
from detector.images.files import SUFFIXES

_LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "keypointlabels", "labels")
_TASK_KEYS = (b'"predictions"', b'"drafts"', b'"result"', b'"completed_by"', b'"total_annotations"')
_ROW_KEYS = (b'"lead_time"', b'"annotator"', b'"original_width"')


class _Rectangle(Rectangle):
    rotation: FiniteFloat = 0


class _Ellipse(Entry):
    x: FiniteFloat
    y: FiniteFloat
    radiusX: FiniteFloat  # noqa: N815
    radiusY: FiniteFloat  # noqa: N815
    rotation: FiniteFloat = 0


class _Outline(Entry):
    points: list[tuple[FiniteFloat, FiniteFloat]]


class _Shown(Entry):
    """The image as the browser showed it, in pixels, and its rotation there."""

    original_width: FiniteFloat
    original_height: FiniteFloat


def is_label_studio(path: Path) -> bool:
    """Return whether a JSON file holds tasks or rows of annotations."""
    ends = ends_of(path)
    tasks = b'"data"' in ends and (b'"annotations"' in ends or b'"completions"' in ends)
    rows = sum(key in ends for key in (*_ROW_KEYS, b'"annotation_id"')) >= 2
    return (tasks and any(key in ends for key in _TASK_KEYS)) or rows


def read_label_studio(root: Path, files: Sequence[Path], paths: Sequence[Path], report: Report) -> Export:
    """Read the files ``paths``, whose images are among ``files``.

    Of several annotations of a task, the ground truth counts, else the latest. Tasks without annotation, or with
    cancelled ones alone, are unlabeled. Raises ValueError, naming the file, for one that is neither.
    """

    def read(path: Path) -> Content:
        content = read_json(path)
        tasks = content if isinstance(content, list) else [as_dict(content, f"{path}: the file")]
        if not any(isinstance(task, dict) and "data" in task for task in tasks):
            tasks = _latest_rows(tasks)
        return Content(read_images(path, tasks, lambda task: _record(task, path, report), report))

    return read_files("Label Studio JSON", root, files, paths, read)


def _record(task: object, path: Path, report: Report) -> Record:
    task = as_dict(task, "a task")
    if "data" not in task:
        names, results = _image_names(task), [*_row_results(task)]
    else:
        names = [*_image_names(as_dict(task["data"], "data")), *_file_upload(task)]
        annotation = _annotation_of(task)
        if annotation is None:
            return Record(tuple(names), path, near_folders(path), None)
        results = as_list(annotation.get("result"), "result")
    if not names:
        raise ValueError("names no image")
    place = f"{path}: {path_parts(names[0])[-1]}"
    objects, complete = read_objects(place, _shapes(results), _object, report)
    return Record(tuple(names), path, near_folders(path), objects, normalized=True, upright=True, complete=complete)


def _image_names(data: Mapping[str, Any]) -> list[str]:
    """Return the values of a task's data that name an image. Raises ValueError for a task with several images."""
    texts = [value for value in data.values() if isinstance(value, str)]
    names = [text for text in texts if PurePosixPath(path_parts(text)[-1].lower()).suffix in SUFFIXES]
    if len({path_parts(name)[-1] for name in names}) > 1:
        raise ValueError(f"has several images: {', '.join(names)[:200]}")
    # an address of a cloud need not end in the suffix of an image
    return names or [text for text in texts if "/" in text][:1]


def _file_upload(task: Mapping[str, Any]) -> list[str]:
    name = task.get("file_upload")
    return [name] if isinstance(name, str) and name else []


def _annotation_of(task: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the annotation of a task that counts; None for an unlabeled one."""
    key = "annotations" if "annotations" in task else "completions"
    annotations = [as_dict(each, "an annotation") for each in as_list(task.get(key) or [], key)]
    done = [each for each in annotations if not (each.get("was_cancelled") or each.get("skipped"))]
    return max(done, key=_rank, default=None)


def _rank(annotation: Mapping[str, Any]) -> tuple[bool, str]:
    return annotation.get("ground_truth") is True, str(annotation.get("created_at") or "")


def _latest_rows(rows: Sequence[object]) -> list[object]:
    """Return the latest of the rows of each task; they are those of several annotators."""
    latest: dict[object, object] = {}
    for number, row in enumerate(rows):
        key = f"id {row['id']}" if isinstance(row, dict) and "id" in row else number
        other = latest.get(key)
        if not isinstance(row, dict) or not isinstance(other, dict) or _rank(row) >= _rank(other):
            latest[key] = row
    return [*latest.values()]


def _row_results(row: Mapping[str, Any]) -> Iterator[object]:
    """Yield the shapes of a row of JSON_MIN, in the form of a task's results."""
    for value in row.values():
        for each in value if isinstance(value, list) else ():
            if isinstance(each, dict) and ("original_width" in each or any(key in each for key in _LABELS)):
                yield {"value": each, **each}


def _shapes(results: Sequence[object]) -> list[object]:
    """Return the results that describe an object: no choices, texts and relations, and no key points of an object.

    Labels of their own tag come as a second result with the id of the shape, and the shape again.
    """
    labeled = {
        str(each["id"]) for each in results if isinstance(each, dict) and "id" in each and _labels(each.get("value"))
    }
    return [
        each
        for each in results
        if not isinstance(each, dict)
        or (_labels(each.get("value")) and not ("keypointlabels" in each["value"] and each.get("parentID")))
        or (_is_shape(each.get("value")) and str(each.get("id")) not in labeled)
    ]


def _labels(value: object) -> list[str]:
    if not isinstance(value, dict):
        return []
    found: list[Any] = next((value[key] for key in _LABELS if isinstance(value.get(key), list)), [])
    return [name.strip() for name in found if isinstance(name, str) and name.strip()]


def _is_shape(value: object) -> bool:
    return isinstance(value, dict) and any(key in value for key in ("width", "radiusX", "points", "rle"))


def _object(result: object) -> list[Boxed]:
    """Return the object of a result, once for each of its labels."""
    result = as_dict(result, "a result")
    value = as_dict(result.get("value"), "value")
    names = _labels(value)
    if not names:
        raise ValueError("has no label")
    if result.get("image_rotation"):
        raise ValueError(f"was drawn on the image turned by {result['image_rotation']} degrees; turn the file itself")
    return [Boxed(name, _box(value, result)) for name in names]


def _box(value: Mapping[str, Any], result: Mapping[str, Any]) -> Corners:
    """Return corners as fractions of the image."""
    if "points" in value:
        return _fractions(box_around(checked(_Outline, value).points))
    if "radiusX" in value:
        ellipse = checked(_Ellipse, value)
        width, height = _sides(result, ellipse.rotation)
        center = (ellipse.x * width, ellipse.y * height)
        radii = (ellipse.radiusX * width, ellipse.radiusY * height)
        x1, y1, x2, y2 = box_around_ellipse(*center, *radii, ellipse.rotation)
    elif "rle" in value:
        raise ValueError("is a mask of a brush, whose box is not in the file; export as COCO, or draw a rectangle")
    else:
        box = checked(_Rectangle, value)
        width, height = _sides(result, box.rotation)
        x, y, box_width, box_height = box.x * width, box.y * height, box.width * width, box.height * height
        x1, y1, x2, y2 = turned_at_corner(x, y, box_width, box_height, box.rotation)
    return _fractions((x1 / width, y1 / height, x2 / width, y2 / height))


def _sides(result: Mapping[str, Any], degrees: float) -> tuple[float, float]:
    """Return the sides of the image, in which angles are right; (1, 1) for an upright shape, which needs none."""
    if not degrees:
        return 1, 1
    shown = checked(_Shown, result)
    if min(shown.original_width, shown.original_height) <= 0:
        raise ValueError("original_width and original_height must be positive")
    return shown.original_width, shown.original_height


def _fractions(box: Corners) -> Corners:
    x1, y1, x2, y2 = (corner / 100 for corner in box)
    return x1, y1, x2, y2
