"""COCO's JSON for object detection, read through pycocotools.

Boxes `x y width height` are in continuous pixels that start at 0, so corners are plain sums.
"""

import contextlib
import io
import math
import re
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from detector.datasets.dataset import Object
from detector.datasets.image_finder import images_among
from detector.datasets.issues import Issue, IssueKind, Report
from detector.datasets.records import UNSPLIT, Export, Record, split_in_name, split_name, split_of_folder
from detector.datasets.text import read_json
from detector.runtime.optional import optional

Corners = tuple[float, float, float, float]
_FLOAT32 = struct.Struct("4f")
_SUBSET = re.compile(r"^instances_(\w+)$")


def is_coco(path: Path) -> bool:
    """Return whether a file names COCO's three lists, without parsing it."""
    wanted = {b'"images"', b'"annotations"', b'"categories"'}
    tail = b""
    with path.open("rb") as file:
        while wanted and (block := file.read(1 << 22)):
            block = block.replace(b"\0", b"")  # of UTF-16
            wanted -= {word for word in wanted if word in tail + block}
            tail = block[-16:]
    return not wanted


def read_coco(root: Path, files: Sequence[Path], paths: Sequence[Path], report: Report) -> Export:
    """Read the COCO files ``paths``, whose images are among ``files``.

    Crowds (`iscrowd`) count as difficult. Raises ValueError, naming the file, for one that is not in COCO's format, and
    for several files of one split.
    """
    by_split: dict[str, Path] = {}
    for path in _instances(paths):
        split = _split(path, root)
        if split in by_split:
            raise ValueError(
                f"{root}: {by_split[split].relative_to(root)} and {path.relative_to(root)} are both annotations "
                f"of {split or 'all images'}: give one of them as the data"
            )
        by_split[split] = path
    if len(by_split) == 1 and next(iter(by_split)) not in ("train", "val", "test"):
        by_split = {UNSPLIT: next(iter(by_split.values()))}
    names: dict[str, None] = {}
    splits = {}
    tools = set()
    for split, path in by_split.items():
        coco = _index(path)
        categories = _categories(coco, path)
        names.update(dict.fromkeys(categories.values()))
        tools.add(_tool(coco, path))
        splits[split] = _records(coco, path, categories, report)
    return Export(" and ".join(sorted(tools)), root, images_among(files), splits, tuple(names))


def read_coco_file(path: Path, folder: Path, report: Report) -> Export:
    """Read one COCO file as a split named after it, with images at their `file_name` in ``folder``.

    An image's id is its `file_name` without the suffix; where two would be equal, all keep theirs. Raises
    FileNotFoundError for a missing file or folder, and ValueError, naming the file, for one that is not in COCO's
    format.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    coco = _index(path)
    categories = _categories(coco, path)
    records = _records(coco, path, categories, report)
    names = [PurePosixPath(*record.names) for record in records]
    ids = [str(name.with_suffix("")) for name in names]
    if len(set(ids)) < len(ids):
        ids = [str(name) for name in names]
    records = [
        replace(record, near=(folder,), path=folder / name, image_id=image_id)
        for record, name, image_id in zip(records, names, ids, strict=True)
    ]
    return Export("COCO", folder, (), {path.stem: records}, tuple(categories.values()), listed=True)


def _index(path: Path) -> Any:
    """Return pycocotools' index of a file, once its lists and ids are known to be there."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    pycocotools = optional("pycocotools.coco", "coco")
    content = read_json(path)
    try:
        _unify_ids(content)
        with contextlib.redirect_stdout(io.StringIO()):
            coco = pycocotools.COCO()
            coco.dataset = content
            coco.createIndex()
    except KeyError as error:
        raise ValueError(f"{path}: not a COCO file: an entry lacks the key {error}") from error
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a COCO file: an entry has the wrong type") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(coco.dataset.get(key), list):
            raise ValueError(f"{path}: not a COCO file: there is no list {key!r}")
    if not coco.dataset["images"]:
        raise ValueError(f"{path}: lists no images")
    for key, index in (("images", coco.imgs), ("categories", coco.cats)):
        if len(index) < len(coco.dataset[key]):
            raise ValueError(f"{path}: two of the {key} have the same id")
    return coco


def _unify_ids(content: dict[str, Any]) -> None:
    """Give annotations without an id one, and make references to images and categories equal to the ids there.

    Some programs write ids as texts in one list and as numbers in another.
    """
    known = {key: {str(each["id"]): each["id"] for each in content.get(key, ())} for key in ("images", "categories")}
    for number, each in enumerate(content.get("annotations", ()), 1):
        each.setdefault("id", number)
        for reference, key in (("image_id", "images"), ("category_id", "categories")):
            each[reference] = known[key].get(str(each[reference]), each[reference])


def _categories(coco: Any, path: Path) -> dict[Any, str]:
    """Return the names of the categories by id, in the order of the ids.

    Roboflow's category 0 is left out: it represents the project, has no objects, and may be named as a real one.
    """
    used = {each["category_id"] for each in coco.dataset["annotations"]}
    entries = dict(coco.cats)
    if len(entries) > 1 and 0 not in used and entries.get(0, {}).get("supercategory") == "none":
        del entries[0]
    try:
        names = {number: entries[number].get("name") for number in sorted(entries)}
    except TypeError as error:
        raise ValueError(f"{path}: ids of categories must all be numbers") from error
    for number, name in names.items():
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{path}: category {number} must have a name, but has {name!r}")
    names = {number: name.strip() for number, name in names.items()}
    if len(set(names.values())) < len(names):
        raise ValueError(f"{path}: names of categories must differ, but are {', '.join(names.values())}")
    return names


def _instances(paths: Sequence[Path]) -> list[Path]:
    """Return COCO's own files of objects, if there are any next to those of captions or key points."""
    return [path for path in paths if path.stem.startswith("instances")] or list(paths)


def _split(path: Path, root: Path) -> str:
    subset = _SUBSET.match(path.stem)
    named = split_in_name(path.stem) or (split_name(subset.group(1)) if subset else UNSPLIT)
    return named or split_of_folder(path.parent, root)


def _tool(coco: Any, path: Path) -> str:
    info = coco.dataset.get("info")
    contributor = info.get("contributor") if isinstance(info, dict) else None
    if contributor == "Label Studio":
        return "Label Studio COCO"
    if path.name == "_annotations.coco.json":
        return "Roboflow COCO"
    return "COCO"


def _records(coco: Any, path: Path, categories: dict[Any, str], report: Report) -> list[Record]:
    images = coco.dataset["images"]
    names = [_file_name(image, path) for image in images]
    most, count = Counter(str(PurePosixPath(name)) for name in names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{path}: lists image {most!r} twice")
    for each in coco.dataset["annotations"]:
        if each["image_id"] not in coco.imgs:
            report(Issue(IssueKind.BAD_OBJECT, f"{_source(each, path)}: there is no image {each['image_id']!r}"))
    # Label Studio annotates what the browser shows, but notes the size of the stored image
    upright = _tool(coco, path) == "Label Studio COCO"
    above, subset = path.parent.parent, path.stem.removeprefix("instances_")
    near = (path.parent, path.parent / "images", above / subset, above / "images" / subset, above / "images")
    records = []
    for image, name in zip(images, names, strict=True):
        objects, complete = _objects(coco.imgToAnns.get(image["id"], ()), categories, path, report)
        records.append(Record((name,), path, near, objects, _size(image), upright=upright, complete=complete))
    return records


def _file_name(image: dict[str, Any], path: Path) -> str:
    name = image.get("file_name")
    # programs on Windows separate folders by a backslash
    name = name.replace("\\", "/") if isinstance(name, str) else ""
    if not PurePosixPath(name).name:
        raise ValueError(f"{path}: image {image['id']} must have a file_name, but has {image.get('file_name')!r}")
    return name


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    if not all(isinstance(side, int | float) and 0 < side < 1e9 for side in (width, height)):
        return None
    return int(width), int(height)  # type: ignore[arg-type]


def _objects(
    entries: Sequence[dict[str, Any]], categories: dict[Any, str], path: Path, report: Report
) -> tuple[list[Object], bool]:
    """Return the objects of an image, and whether all could be read; report those with issues."""
    objects, complete = [], True
    for entry in entries:
        source, category = _source(entry, path), entry["category_id"]
        box = _read_box(entry.get("bbox"))
        if box is None or _is_empty(box):
            box = _box_of_outline(entry) or box
        if category not in categories:
            report(Issue(IssueKind.BAD_OBJECT, f"{source}: there is no category {category!r}"))
            complete = False
        elif box is None:
            reason = f"bbox must be the numbers x, y, width, height, but is {entry.get('bbox')!r}"
            report(Issue(IssueKind.BAD_OBJECT, f"{source}: {reason}"))
            complete = False
        elif _is_empty(box):
            report(Issue(IssueKind.EMPTY_BOX, f"{source}: bbox is empty: {', '.join(map(str, entry['bbox']))}"))
        else:
            crowd = str(entry.get("iscrowd")).lower() in ("1", "true")
            objects.append(Object(source, categories[category], box, crowd))
    return objects, complete


def _source(entry: dict[str, Any], path: Path) -> str:
    return f"{path}: annotation {entry['id']}"


def _read_box(bbox: Any) -> Corners | None:
    """Return the corners of x, y, width, height, rounded to float32; None if these are not four finite numbers.

    A box that was drawn from its right or lower side has a negative width or height.
    """
    if not isinstance(bbox, list):
        return None
    try:
        x, y, width, height = map(float, bbox)
        if not all(map(math.isfinite, (x, y, x + width, y + height))):
            return None
        corners = (min(x, x + width), min(y, y + height), max(x, x + width), max(y, y + height))
        # many times faster than an array for each box
        x1, y1, x2, y2 = _FLOAT32.unpack(_FLOAT32.pack(*corners))
    except (TypeError, ValueError, OverflowError):
        return None
    return x1, y1, x2, y2


def _box_of_outline(entry: dict[str, Any]) -> Corners | None:
    """Return the box around the polygons of an object, which some tools write alone; None without any."""
    outline = entry.get("segmentation")
    try:
        points = np.concatenate([np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in outline or ()])
    except (TypeError, ValueError):  # a mask, or no list of polygons
        return None
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return _read_box([x1, y1, x2 - x1, y2 - y1])


def _is_empty(box: Corners) -> bool:
    return box[2] <= box[0] or box[3] <= box[1]
