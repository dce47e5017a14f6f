"""YOLO's label files: a line `class center-x center-y width height` for each object, as fractions of the image.

ultralytics and Roboflow name classes and splits in data.yaml; Label Studio and LabelImg name classes in classes.txt,
CVAT in obj.names, make-sense in labels.txt. A line of more numbers is a polygon or a rotated box, read as the box
around it.
"""

import math
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from detector.datasets.dataset import Object
from detector.datasets.image_finder import images_among, path_parts
from detector.datasets.issues import Issue, IssueKind, Report
from detector.datasets.records import UNSPLIT, Export, Record, split_name, split_of_folder
from detector.datasets.split_lists import FilesByName, assign_splits, missing_of, read_list
from detector.datasets.text import read_text
from detector.images.files import SUFFIXES

CLASS_FILES = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels")
"""Usual files that name the classes of YOLO's labels."""

_CLASS_FILE = re.compile(
    r"_?(?:predefined_)?(?:(?:class(?:es)?|labels?|categor(?:y|ies)|obj(?:ect)?s?)(?:[_-]?(?:names?|list))?|names)\.txt"
    r"|.*\.(?:names|labels|pbtxt)",
    re.IGNORECASE,
)
_PREDEFINED = "predefined_classes.txt"  # LabelImg starts from these, and writes the classes that it used elsewhere
_MAX_YAML = 2_000_000  # bytes
_MAX_DEPTH = 50
_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
_FAR_OUT = 1.0  # fractions further outside than this are pixels
_KEYS = ("train", "val", "valid", "validation", "test")
_ITEM = re.compile(r"""\bid\s*:\s*(\d+)[^}]*?\b(?:name|display_name)\s*:\s*["']([^"']*)["']""")
_ITEM_REVERSED = re.compile(r"""\bname\s*:\s*["']([^"']*)["'][^}]*?\bid\s*:\s*(\d+)""")


def is_class_file(path: Path) -> bool:
    """Return whether a file is named as those that list the classes of YOLO's labels."""
    return _CLASS_FILE.fullmatch(path.name) is not None


def is_yolo_yaml(path: Path) -> bool:
    """Return whether a YAML file seems to describe a dataset: it names classes and a split."""
    keys = _yaml_keys(path)
    return "names" in keys and not keys.isdisjoint(_KEYS)


def is_yolo_names(path: Path) -> bool:
    """Return whether a YAML file names classes, but no split."""
    keys = _yaml_keys(path)
    return "names" in keys and keys.isdisjoint((*_KEYS, "backbone"))


def _yaml_keys(path: Path) -> set[str]:
    try:
        text = read_text(path, _MAX_YAML)
    except ValueError:
        return set()
    return {line.split(":")[0].strip("'\" ") for line in text.splitlines() if ":" in line}


def is_label_file(path: Path) -> bool:
    """Return whether a text file starts as YOLO's labels do: with a class and four numbers or more."""
    try:
        first = read_text(path).strip().partition("\n")[0]
        return bool(first and _read_line(first, keypoints=len(first.split()) > 5))
    except ValueError:
        return False


def read_yolo(root: Path, files: Sequence[Path], description: Path | None, report: Report) -> Export:
    """Read the label files below ``root``.

    description: the YAML file; None: classes are named in a file of `CLASS_FILES`. Splits are those of the YAML file,
    else of lists such as train.txt, else of folders.
    Raises ValueError, with one line that starts with the file, where classes or splits are not described.
    """
    images = images_among(files)
    labels = _label_files(root, files, images)
    content = {} if description is None else _read_yaml(description)
    names = _read_class_file(root, files) if description is None else _class_names(content, description)
    notes: list[str] = []
    if description is None or not any(content.get(key) for key in _KEYS):
        labels_of = _by_folder(root, files, labels, notes)
    else:
        labels_of = _by_description(root, files, labels, content, description, notes)
    if not any(labels_of.values()):
        raise ValueError(f"{description or root}: no label files (*.txt) found for it below {root}")
    notes += [f"{split}: there are no label files for it" for split, paths in labels_of.items() if not paths]
    n_polygons = 0
    splits: dict[str, list[Record]] = {}
    for split, paths in labels_of.items():
        splits[split] = []
        for path in paths:
            found = _read_labels(path, names, "kpt_shape" in content, report)
            if found is None:
                continue
            n_polygons += found.n_polygons
            record = Record((path.stem,), path, _near(path), found.objects, normalized=True, complete=found.complete)
            splits[split].append(record)
    recognized = f"YOLO, {n_polygons} polygons as their bounding boxes" if n_polygons else "YOLO"
    return Export(recognized, root, images, splits, names, notes=tuple(notes))


def _label_files(root: Path, files: Sequence[Path], images: Sequence[Path]) -> list[Path]:
    """Return the label files, without lists and notes: they belong to an image, or hold labels."""
    texts = [path for path in files if path.suffix.lower() == ".txt" and not is_class_file(path)]
    folders = {path.parent for path in texts if "labels" in path.relative_to(root).parts[:-1]}
    stems = {path.stem for path in images}
    return [
        path
        for path in texts
        if (not folders or path.parent in folders)
        and (path.stem in stems or is_label_file(path) or (folders and not path.stat().st_size))
    ]


def _read_yaml(path: Path) -> dict[str, Any]:
    text = read_text(path, _MAX_YAML)
    try:
        depth = 0
        for token in yaml.scan(text):
            if isinstance(token, yaml.AliasToken):
                raise ValueError(f"{path}: holds an alias (*); write it out")
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            if depth > _MAX_DEPTH:  # the parser's time grows with the square of it
                raise ValueError(f"{path}: is nested more than {_MAX_DEPTH} levels deep")
        content = yaml.load(text, yaml.BaseLoader)  # nosec B506: strings only; a class may be named no
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must be a mapping with names and train")
    return content


def _class_names(content: dict[str, Any], path: Path) -> tuple[str, ...]:
    """Return the classes, given as a list or by number, in the order of their numbers."""
    names = content.get("names")
    if isinstance(names, dict):
        if set(names) != {str(number) for number in range(len(names))}:
            raise ValueError(f"{path}: names must be numbered 0 to {len(names) - 1}")
        names = [names[str(number)] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: names must be a list of the classes")
    count = content.get("nc", str(len(names)))
    if count != str(len(names)):
        raise ValueError(f"{path}: nc is {count}, but there are {len(names)} names")
    return _distinct([name.strip() for name in names], path)


def _read_class_file(root: Path, files: Sequence[Path]) -> tuple[str, ...]:
    found = [path for path in files if is_class_file(path)]
    if not found:
        raise ValueError(f"{root}: YOLO's labels need a data.yaml or a {CLASS_FILES[0]} that names the classes")
    found = [path for path in found if path.name.lower() != _PREDEFINED] or found
    lists = {path: _class_lines(path) for path in found}
    first = found[0]
    for path in found[1:]:
        if lists[path] != lists[first]:
            raise ValueError(f"{first} and {path} name different classes: keep one of them")
    if not lists[first]:
        raise ValueError(f"{first}: names no classes")
    return _distinct(lists[first], first)


def _class_lines(path: Path) -> list[str]:
    text = read_text(path)
    if path.suffix.lower() != ".pbtxt":
        return [line.strip() for line in text.splitlines() if line.strip()]
    # a label map of TensorFlow, whose ids count from 1
    items = {int(number): name for number, name in _ITEM.findall(text)}
    items = items or {int(number): name for name, number in _ITEM_REVERSED.findall(text)}
    if sorted(items) != [*range(1, len(items) + 1)]:
        raise ValueError(f"{path}: ids of classes must be 1 to {len(items)}, but are {', '.join(map(str, items))}")
    return [items[number] for number in sorted(items)]


def _distinct(names: list[str], path: Path) -> tuple[str, ...]:
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"{path}: names of classes must differ and not be empty, but are {', '.join(names)}")
    return tuple(names)


def _by_folder(root: Path, files: Sequence[Path], labels: Sequence[Path], notes: list[str]) -> dict[str, list[Path]]:
    """Return label files by the split of the list that names them, else of their folder."""
    assigned = assign_splits(files, labels)
    notes += assigned.notes
    splits: dict[str, list[Path]] = {}
    for path in labels:
        splits.setdefault(assigned.splits.get(path) or split_of_folder(path.parent, root), []).append(path)
    # CVAT calls all images train where a task has no subsets
    if [*splits] == ["train"] and all(path.parent.name == "obj_train_data" for path in labels):
        return {UNSPLIT: splits["train"]}
    return splits


def _by_description(
    root: Path, files: Sequence[Path], labels: Sequence[Path], content: dict[str, Any], path: Path, notes: list[str]
) -> dict[str, list[Path]]:
    """Return label files by split. Raises ValueError where the images of train are missing; others are noted."""
    find = _LabelFinder((path.parent, root), files, labels, str(content.get("path") or ""), notes)
    splits: dict[str, list[Path]] = {}
    for key in _KEYS:
        entries = content.get(key)
        if not entries or entries in ("null", "~"):
            continue
        if not isinstance(entries, str | list) or not all(isinstance(each, str) for each in entries):
            raise ValueError(f"{path}: {key} must be a folder, a list of folders, or a file of names")
        for entry in [entries] if isinstance(entries, str) else entries:
            found = find(entry)
            if found is None and key == "train":
                raise ValueError(f"{path}: {key}: there is no {entry!r} below {root}")
            if found is None:
                notes.append(f"{path}: {key}: there is no {entry!r} below {root}; go on without it")
            else:
                splits.setdefault(split_name(key), []).extend(found)
    if not splits:
        raise ValueError(f"{path}: must name a folder or a file for train or val")
    if len(splits) > 1 and splits.get("train") == splits.get("val"):
        # as in ultralytics' first example: the same images for both are not held-out data
        return {UNSPLIT: splits["train"], **{key: each for key, each in splits.items() if key == "test"}}
    return splits


class _LabelFinder:
    """Finds the label files of a split's entry in a YAML file: a folder, an image, or a list of images.

    roots: folders that entries start from. above: the folder that ``path`` names, of this or another machine.
    """

    def __init__(
        self, roots: Sequence[Path], files: Sequence[Path], labels: Sequence[Path], above: str, notes: list[str]
    ) -> None:
        self._roots, self._files, self._labels, self._notes = roots, frozenset(files), labels, notes
        self._above = [part for part in path_parts(above) if part]
        self._find = FilesByName(labels).find

    def __call__(self, entry: str) -> list[Path] | None:
        """Return the label files of an entry; None if there is nothing by its name."""
        # paths may begin with folders of another machine: the longest end that exists below a root counts
        whole = [*self._above, *(part for part in path_parts(entry) if part)]
        for root, start in product(self._roots, range(len(whole))):
            path = root.joinpath(*whole[start:])
            if path in self._files:
                return self._of_file(path)
            if path.is_dir():
                folder = root.joinpath(*_swapped(tuple(whole[start:]), "images", "labels"))
                return [label for label in self._labels if (folder if folder.is_dir() else path) in label.parents]
        return None

    def _of_file(self, path: Path) -> list[Path]:
        if path.suffix.lower() in SUFFIXES:
            label = self._find(str(path))
            return [] if label is None else [label]
        listed = read_list(path, self._find)
        self._notes += missing_of(path, listed)
        return [*dict.fromkeys(each.annotation for each in listed if each.annotation is not None)]


def _swapped(parts: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    """Return the folders with the last ``old`` among them replaced."""
    if old not in parts:
        return parts
    last = len(parts) - 1 - parts[::-1].index(old)
    return (*parts[:last], new, *parts[last + 1 :])


def _near(path: Path) -> tuple[Path, ...]:
    return Path(*_swapped(path.parent.parts, "labels", "images")), path.parent


class _Labels(NamedTuple):
    """Objects of a label file, whether all could be read, and the number of polygons among them."""

    objects: list[Object]
    complete: bool
    n_polygons: int


def _read_labels(path: Path, names: Sequence[str], keypoints: bool, report: Report) -> _Labels | None:
    """Return the objects of a label file, reporting those with issues; report one that is not text and return None."""
    try:
        lines = read_text(path).splitlines()
    except ValueError as error:
        report(Issue(IssueKind.BAD_ANNOTATION, str(error)))
        return None
    objects, complete, n_polygons = [], True, 0
    for number, line in enumerate((line for line in lines if line.strip()), 1):
        source = f"{path}: object {number}"
        try:
            label, box, is_polygon = _read_line(line, keypoints)
        except ValueError as error:
            report(Issue(IssueKind.BAD_OBJECT, f"{source}: {error}"))
            complete = False
            continue
        if not 0 <= label < len(names):
            report(Issue(IssueKind.UNKNOWN_CLASS, f"{source}: there is no class {label}, only 0 to {len(names) - 1}"))
            complete = False
        elif box[0] >= box[2] or box[1] >= box[3]:
            report(Issue(IssueKind.EMPTY_BOX, f"{source}: the box is empty: {line.strip()[:80]}"))
        else:
            objects.append(Object(source, names[label], box, False))
            n_polygons += is_polygon
    return _Labels(objects, complete, n_polygons)


def _read_line(line: str, keypoints: bool) -> tuple[int, tuple[float, float, float, float], bool]:
    """Return the class, the corners as fractions of the image, and whether they enclose a polygon."""
    fields = line.split()
    try:
        values = [float(field) for field in fields]
    except ValueError:
        raise ValueError(f"must be numbers, but is {line.strip()[:80]!r}") from None
    if not all(map(math.isfinite, values)) or values[0] != int(values[0]):
        raise ValueError(f"must be a class and finite numbers, but is {line.strip()[:80]!r}")
    is_polygon = len(values) > 6 and len(values) % 2 == 1 and not keypoints
    if not is_polygon and len(values) != 5 and not (keypoints and len(values) > 5):
        raise ValueError(f"must be a class and 4 numbers, or the points of a polygon, but has {len(fields)} numbers")
    if is_polygon:
        xs, ys = values[1::2], values[2::2]
        box = (min(xs), min(ys), max(xs), max(ys))
    else:
        x, y, width, height = values[1], values[2], abs(values[3]), abs(values[4])
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if min(box) < -_FAR_OUT or max(box) > 1 + _FAR_OUT:
        raise ValueError(f"must be fractions of the image from 0 to 1, but is {line.strip()[:80]!r}")
    return int(values[0]), box, is_polygon
