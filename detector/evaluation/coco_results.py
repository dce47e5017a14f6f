"""Read and write COCO result files.

They are JSON lists of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``. Ids are those of the
COCO file that the data were read from. Other data have file names for ids of images, and categories that are counted
from 1.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from sys import float_info
from typing import Any, NamedTuple

import numpy as np

from detector.datasets.dataset import Dataset
from detector.datasets.image_finder import AmbiguousImageError, ImageFinder, path_parts
from detector.datasets.text import read_json
from detector.evaluation.outcomes import ClassDetections, Outcomes

_MAX_CORNER = 1e9
"""Bound that NaN does not satisfy: areas fit into float32."""
_KEYS = ("image_id", "category_id", "bbox", "score")
_LISTS = ("images", "annotations", "categories")
_log = logging.getLogger(__name__)


class CocoIds(NamedTuple):
    """Ids in result files: of images by our image id, and of categories in the order of our classes."""

    images: Mapping[str, int | str]
    categories: Sequence[int]


def plain_ids(dataset: Dataset) -> CocoIds:
    """Return ids for a dataset that is no COCO file: its own image ids, and categories counted from 1."""
    return CocoIds({each.image_id: each.image_id for each in dataset}, range(1, len(dataset.class_names) + 1))


def coco_ids(paths: Sequence[Path], dataset: Dataset) -> CocoIds:
    """Return the ids in the COCO file of ``paths`` that lists most images of the dataset, `plain_ids` if none does.

    paths: the files of all splits of the data.
    """
    candidates = [(path, *_ids_in(path, dataset)) for path in paths]
    if not any(images for _, images, _ in candidates):
        return plain_ids(dataset)

    def rank(candidate: tuple[Path, dict[str, int | str], dict[str, int]]) -> tuple[int, int]:
        path, images, _ = candidate
        return len(images), sum(path.parent in each.path.parents for each in dataset)

    _, images, categories = max(candidates, key=rank)
    by_image = {each.image_id: images.get(each.image_id, each.image_id) for each in dataset}
    return CocoIds(by_image, [categories.get(name, number) for number, name in enumerate(dataset.class_names, 1)])


def _ids_in(path: Path, dataset: Dataset) -> tuple[dict[str, int | str], dict[str, int]]:
    """Return the ids of the dataset's images by our image id, and of categories by name, in a COCO file."""
    content = read_json(path)
    finder = ImageFinder([each.path for each in dataset])
    image_ids = {each.path: each.image_id for each in dataset}
    images: dict[str, int | str] = {}
    for entry in content["images"]:
        try:
            found = finder.find((str(entry.get("file_name")),), (path.parent, path.parent / "images"))
        except (FileNotFoundError, AmbiguousImageError):  # of another split
            continue
        images[image_ids[found]] = entry["id"]
    return images, {str(entry["name"]).strip(): entry["id"] for entry in content["categories"]}


def to_coco_results(outcomes: Outcomes, ids: CocoIds) -> list[dict[str, Any]]:
    """Convert all detections to rows of a result file, class by class and best first."""
    names = [ids.images[image_id] for image_id in outcomes.image_ids]
    columns = (outcomes.images.tolist(), outcomes.labels.tolist(), outcomes.boxes.tolist(), outcomes.scores.tolist())
    return [
        {
            "image_id": names[image],
            "category_id": ids.categories[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for image, label, (x1, y1, x2, y2), score in zip(*columns, strict=True)
    ]


def read_coco_results(path: Path, ids: CocoIds, dataset: Dataset) -> dict[str, ClassDetections]:
    """Read a result file into the detections of each class.

    Without ids of a COCO file, images go by their id, file name or its stem, with any folders, and those whose name is
    digits alone, such as 000012, also by the number; categories that start from 0 are counted from there. A file with
    COCO's lists of images and categories goes by its own names. Detections of categories that are not among the classes
    are left out. Raises OSError for a file that cannot be read, and ValueError, with its name, for invalid content and
    detections of unknown images.
    """
    content = read_json(path)
    if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in _LISTS):
        content, ids = _by_name(content, path, dataset)
    if not isinstance(content, list):
        raise ValueError(f"{path}: not a COCO result file: it must be a list of detections")
    for number, each in enumerate(content):
        if not isinstance(each, dict) or not all(key in each for key in _KEYS):
            raise ValueError(f"{path}: detection {number}: must have the keys {', '.join(_KEYS)}")
    image_of = _images_by_key(ids, dataset)
    label_of = _labels_by_key(content, ids, path)
    image_ids: list[list[str]] = [[] for _ in dataset.class_names]
    rows: list[list[list[float]]] = [[] for _ in dataset.class_names]
    for number, each in enumerate(content):
        where = f"{path}: detection {number}"
        label = label_of.get(_key(each["category_id"]))
        if label is None:
            continue
        image_id = next((image_of[key] for key in _spellings(each["image_id"]) if key in image_of), None)
        if image_id is None:
            some = next(iter(ids.images.values()), None)
            raise ValueError(
                f"{where}: there is no image {each['image_id']!r} among the {len(ids.images)} evaluated, "
                f"whose ids are such as {some!r}"
            )
        image_ids[label].append(image_id)
        rows[label].append(_read_row(each, where))
    if content and not any(rows):
        named = ", ".join(f"{key} ({name})" for key, name in zip(ids.categories, dataset.class_names, strict=True))
        raise ValueError(f"{path}: no detection is of a class to evaluate, whose category_id is one of {named}")
    found = {}
    for label, name in enumerate(dataset.class_names):
        numbers = np.array(rows[label], np.float64).reshape(-1, 5)
        boxes = np.concatenate([numbers[:, :2], numbers[:, :2] + numbers[:, 2:4]], axis=1)
        found[name] = ClassDetections(image_ids[label], boxes.astype(np.float32), numbers[:, 4])
    return found


def _by_name(content: Mapping[str, Any], path: Path, dataset: Dataset) -> tuple[list[Any], CocoIds]:
    """Return the annotations of a COCO file that holds detections, with names for ids, and the dataset's ids."""
    try:
        images = {_key(each["id"]): str(each["file_name"]) for each in content["images"]}
        categories = {_key(each["id"]): str(each["name"]).strip() for each in content["categories"]}
        ids = {name: number for number, name in enumerate(dataset.class_names, 1)}
        rows = [
            {
                **each,
                "image_id": images[_key(each["image_id"])],
                "category_id": ids.get(categories[_key(each["category_id"])], -1),
            }
            for each in content["annotations"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a COCO result file: its lists do not fit together ({error})") from error
    return rows, plain_ids(dataset)


def _images_by_key(ids: CocoIds, dataset: Dataset) -> dict[str, str]:
    """Return image ids by the texts that may stand for them; those for several images are left out."""
    plain = [each for each in dataset if isinstance(ids.images[each.image_id], str)]
    named = [(each.path.name, each.image_id) for each in plain] + [(each.path.stem, each.image_id) for each in plain]
    named += [(str(int(name)), image_id) for name, image_id in named if name.isascii() and name.isdigit()]
    counts = Counter(name for name, _ in dict.fromkeys(named))
    keys = {name: image_id for name, image_id in named if counts[name] == 1}
    return keys | {_key(key): image_id for image_id, key in ids.images.items()}


def _labels_by_key(content: Sequence[Mapping[str, Any]], ids: CocoIds, path: Path) -> dict[str, int]:
    """Return labels by the texts of their categories."""
    first = 0
    plain = all(isinstance(each, str) for each in ids.images.values())
    keys = {_key(each["category_id"]) for each in content}
    if plain and "0" in keys and str(len(ids.categories)) not in keys:
        first = 1
        _log.info("%s: categories are counted from 0", path)
    return {_key(category - first): label for label, category in enumerate(ids.categories)}


def _key(value: object) -> str:
    """Return an id as text; programs write them as numbers, whole fractions or texts."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _spellings(value: object) -> tuple[str, ...]:
    """Return the texts that may stand for an image, likeliest first."""
    name = path_parts(_key(value))[-1]
    return _key(value), name, Path(name).stem


def _read_row(detection: Mapping[str, Any], where: str) -> list[float]:
    """Return x, y, width, height and score."""
    box = detection["bbox"]
    values = [*box, detection["score"]] if isinstance(box, list) and len(box) == 4 else []
    bounds = [_MAX_CORNER] * 4 + [float_info.max]
    numbers = all(type(value) in (int, float) for value in values)
    if not values or not numbers or not all(abs(value) <= most for value, most in zip(values, bounds, strict=True)):
        raise ValueError(f"{where}: bbox must be the numbers x, y, width, height, up to 1e9, and score a number")
    if box[2] < 0 or box[3] < 0:
        raise ValueError(f"{where}: bbox must have a width and height of at least 0, but has {box[2]} and {box[3]}")
    return [float(value) for value in values]
