"""Labels of a project's images: checked values, and the COCO file that holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detector.datasets.dataset import Annotation
from detector.datasets.text import read_json
from detector.datasets.writing import coco_categories, coco_object
from detector.runtime.files import write_text

Size = tuple[int, int]
"""Height and width of an image, pixels."""
MAX_BOXES = 1000
MAX_CLASSES = 200
MAX_NAME = 100
_DONE = "done"


class Box(NamedTuple):
    """A labeled object; corners ``x1 y1 x2 y2``, pixels, 0-based, half-open."""

    class_name: str
    corners: tuple[float, float, float, float]


class ImageLabels(NamedTuple):
    """Labels of an image. done: all of its objects have boxes; without boxes, it shows none of them."""

    boxes: tuple[Box, ...] = ()
    done: bool = False

    def to_annotation(self, image_id: str, path: Path, class_names: Sequence[str]) -> Annotation:
        """Return the labels as an annotation of an image; ``class_names`` hold those of all boxes."""
        boxes = np.array([each.corners for each in self.boxes], np.float32).reshape(-1, 4)
        labels = np.array([class_names.index(each.class_name) for each in self.boxes], np.int64)
        return Annotation(image_id, path, boxes, labels, np.zeros(len(labels), np.bool_))


NOTHING = ImageLabels()


def check_class_name(name: Any) -> str:
    """Return the name of a class without surrounding space. Raises ValueError for one that no file could hold."""
    if not isinstance(name, str):
        raise ValueError("the name of a class must be text")
    name = " ".join(name.split())
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ValueError(f"the name of a class must have 1 to {MAX_NAME} printable characters")
    return name


def check_labels(content: Any, size: Size) -> ImageLabels:
    """Return the labels of JSON ``{"boxes": [{"label": name, "box": [x1, y1, x2, y2]}], "done": true}``.

    Corners are clipped to the image. Raises ValueError, in one line, for other values.
    """
    if not isinstance(content, dict) or set(content) != {"boxes", "done"}:
        raise ValueError('labels must be {"boxes": [...], "done": true or false}')
    boxes, done = content["boxes"], content["done"]
    if not isinstance(done, bool) or not isinstance(boxes, list) or len(boxes) > MAX_BOXES:
        raise ValueError(f"boxes must be a list of at most {MAX_BOXES}, and done true or false")
    return ImageLabels(tuple(_check_box(each, size) for each in boxes), done)


def _check_box(content: Any, size: Size) -> Box:
    if not isinstance(content, dict) or set(content) != {"label", "box"}:
        raise ValueError('a box must be {"label": name, "box": [x1, y1, x2, y2]}')
    return Box(check_class_name(content["label"]), check_corners(content["box"], size))


def check_corners(corners: Any, size: Size) -> tuple[float, float, float, float]:
    """Return corners clipped to an image. Raises ValueError unless a pixel of them is inside."""
    numbers = isinstance(corners, list) and len(corners) == 4
    if not numbers or not all(type(each) in (int, float) and abs(each) < 1e9 for each in corners):
        raise ValueError("the corners of a box must be four numbers: x1, y1, x2, y2")
    height, width = size
    x1, y1, x2, y2 = (round(min(max(each, 0), end), 2) for each, end in zip(corners, (width, height) * 2, strict=True))
    if x2 - x1 < 1 or y2 - y1 < 1:
        raise ValueError(f"a box must cover a pixel of the {width} x {height} image, but its corners are {corners}")
    return x1, y1, x2, y2


def write_labels(
    path: Path, labels: Mapping[str, ImageLabels], sizes: Mapping[str, Size], class_names: Sequence[str]
) -> None:
    """Write the images that have labels as COCO's JSON, whole or not at all; names are those of their files."""
    label_of = {name: label for label, name in enumerate(class_names)}
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for number, (name, each) in enumerate(labels.items(), 1):
        height, width = sizes[name]
        images.append({"id": number, "file_name": name, "width": width, "height": height, _DONE: each.done})
        for class_name, corners in each.boxes:
            objects.append(coco_object(len(objects) + 1, number, label_of[class_name], corners))
    content = {"images": images, "annotations": objects, "categories": coco_categories(class_names)}
    write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def read_labels(path: Path) -> tuple[dict[str, ImageLabels], dict[str, Size], list[str]]:
    """Return labels and sizes by file name, and the class names, of a file of `write_labels`; empty for no file.

    Raises ValueError, in one line that begins with the path, for another file.
    """
    if not path.exists():
        return {}, {}, []
    try:
        return _parse(read_json(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: is not a file of labels of this program ({type(error).__name__}: {error})") from None
    except ValueError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: {reason}; repair the file, or move it away to begin again") from None


def _parse(content: Any) -> tuple[dict[str, ImageLabels], dict[str, Size], list[str]]:
    names = {each["id"]: check_class_name(each["name"]) for each in content["categories"]}
    if len(set(names.values())) < len(content["categories"]) or len(names) > MAX_CLASSES:
        raise ValueError(f"categories must be at most {MAX_CLASSES} with different names")
    sizes: dict[str, Size] = {}
    images: dict[Any, dict[str, Any]] = {}
    for each in content["images"]:
        name = str(each["file_name"])
        size = _side(each["height"]), _side(each["width"])
        if name in sizes:
            raise ValueError(f"image {name!r} is listed twice")
        sizes[name] = size
        images[each["id"]] = {**each, "boxes": []}
    for each in content["annotations"]:
        image = images[each["image_id"]]
        x, y, width, height = each["bbox"]
        corners = check_corners([x, y, x + width, y + height], sizes[image["file_name"]])
        image["boxes"].append(Box(names[each["category_id"]], corners))
    labels = {
        image["file_name"]: ImageLabels(tuple(image["boxes"]), bool(image.get(_DONE, True)))
        for image in images.values()
    }
    return labels, sizes, [*names.values()]


def _side(value: Any) -> int:
    if type(value) is not int or not 0 < value < 10**6:
        raise ValueError(f"width and height must be whole numbers of pixels, but one is {value!r}")
    return value


def count_boxes(labels: Iterable[ImageLabels]) -> dict[str, int]:
    """Return the number of boxes of each class."""
    counts: dict[str, int] = {}
    for each in labels:
        for box in each.boxes:
            counts[box.class_name] = counts.get(box.class_name, 0) + 1
    return counts
