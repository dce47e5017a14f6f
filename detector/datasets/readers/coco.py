"""Data sets in COCO's JSON form for object detection, read through pycocotools.

COCO's boxes `x y width height` are in continuous pixels that start at 0, so that corners are sums and nothing else.
"""

import contextlib
import io
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from detector.datasets.dataset import Dataset, Fault, Kind, Object, Report, annotate, labels_by_name, raise_fault
from detector.datasets.image_finder import images_among
from detector.datasets.records import UNSPLIT, Export, Record, split_name, split_of_folder
from detector.runtime.optional import optional


def load_coco(
    path: Path | str,
    images: Path | str | None = None,
    class_names: Sequence[str] | None = None,
    report: Report = raise_fault,
) -> Dataset:
    """Read the images of a COCO file and their objects, in the file's order.

    images: the folder in which the images' `file_name`s lie (default: that of the file).
    class_names: the classes that may occur; labels are indices into them. None: all categories, by their ids.
    report: what to do about a fault of a single object. Where it returns, as `list.append` does, the object is left
        out.
    An image's id is its `file_name` without the suffix; where two would be alike, all ids keep theirs. Crowds
    (`iscrowd`) count as difficult. Image files are not opened and may be missing. Raises FileNotFoundError for a
    missing file or folder, and ValueError, naming the file, where it is no COCO file or holds objects with faults.
    """
    path = Path(path)
    folder = path.parent if images is None else Path(images)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    coco = read_file(path)
    category_names = names_of_categories(coco, path)
    names = tuple(category_names.values() if class_names is None else class_names)
    label_of = labels_by_name(names)
    file_names = [name_of_image(image, path) for image in coco.dataset["images"]]
    for each in coco.dataset["annotations"]:
        if each["image_id"] not in coco.imgs:
            report(Fault(Kind.BAD_OBJECT, f"{_source(each, path)}: there is no image {each['image_id']!r}"))
    annotations = tuple(
        annotate(
            image_id,
            folder / file_name,
            objects_of_image(coco.imgToAnns.get(image["id"], ()), category_names, path, report),
            label_of,
            report,
        )
        for image, file_name, image_id in zip(
            coco.dataset["images"], file_names, _image_ids(file_names, path), strict=True
        )
    )
    return Dataset(annotations, names, f"{path.resolve().parent.name} {path.stem}")


def read_file(path: Path) -> Any:
    """pycocotools' index of a file whose lists and ids are there."""

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    pycocotools = optional("pycocotools.coco", "coco")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = pycocotools.COCO(str(path))
    except KeyError as error:
        raise ValueError(f"{path}: not a COCO file: an entry lacks the key {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error})") from error
    except (TypeError, AttributeError, AssertionError) as error:
        raise ValueError(f"{path}: not a COCO file: an entry is not of the form that COCO has") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(coco.dataset.get(key), list):
            raise ValueError(f"{path}: not a COCO file: there is no list {key!r}")
    if not coco.dataset["images"]:
        raise ValueError(f"{path}: lists no images")
    for key, index in (("images", coco.imgs), ("categories", coco.cats)):
        if len(index) < len(coco.dataset[key]):
            raise ValueError(f"{path}: two of the {key} have the same id")
    return coco


def names_of_categories(coco: Any, path: Path) -> dict[Any, str]:
    """The names of the categories by id, in the order of the ids."""
    try:
        names = {number: coco.cats[number].get("name") for number in sorted(coco.cats)}
    except TypeError as error:
        raise ValueError(f"{path}: ids of categories must all be numbers") from error
    for number, name in names.items():
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{path}: category {number} must have a name, but has {name!r}")
    names = {number: name.strip() for number, name in names.items()}
    if len(set(names.values())) < len(names):
        raise ValueError(f"{path}: names of categories must differ, but are {', '.join(names.values())}")
    return names


def name_of_image(image: dict[str, Any], path: Path) -> str:
    name = image.get("file_name")
    # programs on Windows part folders by a backslash
    name = name.replace("\\", "/") if isinstance(name, str) else ""
    if not PurePosixPath(name).name:
        raise ValueError(f"{path}: image {image['id']} must have a file_name, but has {image.get('file_name')!r}")
    return name


def _image_ids(file_names: Sequence[str], path: Path) -> list[str]:
    whole = [str(PurePosixPath(name)) for name in file_names]
    if len(set(whole)) < len(whole):
        raise ValueError(f"{path}: lists image {Counter(whole).most_common(1)[0][0]!r} twice")
    stems = [str(PurePosixPath(name).with_suffix("")) for name in file_names]
    return stems if len(set(stems)) == len(stems) else whole


def objects_of_image(
    entries: Sequence[dict[str, Any]], category_names: dict[Any, str], path: Path, report: Report
) -> list[Object]:
    """The objects of an image, the faulty ones left out."""
    objects = []
    for entry in entries:
        source, category = _source(entry, path), entry["category_id"]
        box = _read_box(entry.get("bbox"))
        if category not in category_names:
            report(Fault(Kind.BAD_OBJECT, f"{source}: there is no category {category!r}"))
        elif box is None:
            reason = f"bbox must be the numbers x, y, width, height, but is {entry.get('bbox')!r}"
            report(Fault(Kind.BAD_OBJECT, f"{source}: {reason}"))
        elif box[2] <= box[0] or box[3] <= box[1]:
            report(Fault(Kind.EMPTY_BOX, f"{source}: bbox is empty: {', '.join(map(str, entry['bbox']))}"))
        else:
            objects.append(Object(source, category_names[category], box, bool(entry.get("iscrowd"))))
    return objects


def _source(entry: dict[str, Any], path: Path) -> str:
    return f"{path}: annotation {entry['id']}"


def _read_box(bbox: Any) -> tuple[float, float, float, float] | None:
    """Corners of x, y, width, height, in the precision of boxes; None where these are not four finite numbers."""
    if not isinstance(bbox, list):
        return None
    try:
        x, y, width, height = map(float, bbox)
    except (TypeError, ValueError, OverflowError):
        return None
    x1, y1, x2, y2 = np.array([x, y, x + width, y + height]).astype(np.float32).tolist()
    return (x1, y1, x2, y2) if all(map(math.isfinite, (x1, y1, x2, y2))) else None


_SPLIT_IN_NAME = re.compile(
    r"(?:^|[_\-.])(train|training|val|valid|validation|test)(?:\d{4})?(?=[_\-.]|$)", re.IGNORECASE
)
_SUBSET = re.compile(r"^instances_(\w+)$")


def is_coco(path: Path) -> bool:
    """Whether a file looks like one of COCO's without being read as JSON: all three lists are named in it."""
    wanted = {b'"images"', b'"annotations"', b'"categories"'}
    tail = b""
    with path.open("rb") as file:
        while wanted and (block := file.read(1 << 22)):
            wanted -= {word for word in wanted if word in tail + block}
            tail = block[-16:]
    return not wanted


def read_coco_files(root: Path, files: Sequence[Path], paths: Sequence[Path], report: Report) -> Export:
    """The COCO files ``paths`` of a data set whose images are among ``files``.

    Raises ValueError for a file that is not COCO's and for several files of one split.
    """
    by_split: dict[str, Path] = {}
    for path in _instances(paths):
        split = _split(path, root)
        if split in by_split:
            raise ValueError(
                f"{root}: {by_split[split].relative_to(root)} and {path.relative_to(root)} are both annotations "
                f"of {split or 'all images'}: give the file that is meant as the data"
            )
        by_split[split] = path
    if len(by_split) == 1 and next(iter(by_split)) not in ("train", "val", "test"):
        by_split = {UNSPLIT: next(iter(by_split.values()))}
    names: dict[str, None] = {}
    splits = {}
    tools = set()
    for split, path in by_split.items():
        coco = read_file(path)
        _drop_root_category(coco)
        categories = names_of_categories(coco, path)
        names.update(dict.fromkeys(categories.values()))
        tools.add(_tool(coco, path))
        splits[split] = _records(coco, path, categories, report)
    return Export(" and ".join(sorted(tools)), root, images_among(files), splits, tuple(names))


def _instances(paths: Sequence[Path]) -> list[Path]:
    """COCO's own files of objects, where those of captions or key points lie next to them."""
    return [path for path in paths if path.stem.startswith("instances")] or list(paths)


def _split(path: Path, root: Path) -> str:
    if found := _SPLIT_IN_NAME.search(path.stem):
        return split_name(found.group(1))
    if found := _SUBSET.match(path.stem):
        return split_name(found.group(1))
    return split_of_folder(path.parent, root)


def _drop_root_category(coco: Any) -> None:
    """Take out Roboflow's category 0: it stands for the project, has no objects, and may be named as a real one."""
    used = {each["category_id"] for each in coco.dataset["annotations"]}
    root = coco.cats.get(0, {})
    if len(coco.cats) > 1 and 0 not in used and root.get("supercategory") == "none":
        del coco.cats[0]


def _tool(coco: Any, path: Path) -> str:
    info = coco.dataset.get("info")
    contributor = info.get("contributor") if isinstance(info, dict) else None
    if contributor == "Label Studio":
        return "Label Studio COCO"
    if path.name == "_annotations.coco.json":
        return "Roboflow COCO"
    return "COCO"


def _records(coco: Any, path: Path, categories: dict[Any, str], report: Report) -> list[Record]:
    for each in coco.dataset["annotations"]:
        if each["image_id"] not in coco.imgs:
            source = f"{path}: annotation {each['id']}"
            report(Fault(Kind.BAD_OBJECT, f"{source}: there is no image {each['image_id']!r}"))
    images = coco.dataset["images"]
    names = [name_of_image(image, path) for image in images]
    most, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{path}: lists image {most!r} twice")
    # Label Studio annotates what the browser shows, but notes the size of what is stored
    shown = _tool(coco, path) == "Label Studio COCO"
    return [
        Record(
            (name,),
            path,
            (path.parent, path.parent / "images", path.parent.parent / "images"),
            objects_of_image(coco.imgToAnns.get(image["id"], ()), categories, path, report),
            _size(image),
            shown=shown,
        )
        for image, name in zip(images, names, strict=True)
    ]


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    if not all(isinstance(side, int | float) and 0 < side < 1e9 for side in (width, height)):
        return None
    return int(width), int(height)  # type: ignore[arg-type]
