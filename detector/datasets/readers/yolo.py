"""YOLO's label files: a line `class center-x center-y width height` for each object, as fractions of the image.

ultralytics and Roboflow name classes and splits in data.yaml; Label Studio and LabelImg name classes in classes.txt,
CVAT in obj.names. A line of more numbers is a polygon or a rotated box, read as the box around it.
"""

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from detector.datasets.dataset import Object
from detector.datasets.image_finder import images_among
from detector.datasets.issues import Issue, IssueKind, Report
from detector.datasets.records import UNSPLIT, Export, Record, split_name, split_of_folder

CLASS_FILES = ("classes.txt", "obj.names")
_MAX_YAML = 2_000_000  # bytes
_FAR_OUT = 1.0  # fractions further outside than this are pixels
_KEYS = ("train", "val", "valid", "validation", "test")


def is_yolo_yaml(path: Path) -> bool:
    """Return whether a YAML file seems to describe a dataset: it names classes and a split."""
    if path.stat().st_size > _MAX_YAML:
        return False
    keys = {line.split(":")[0].strip("'\" ") for line in path.read_text("utf-8", "replace").splitlines() if ":" in line}
    return "names" in keys and not keys.isdisjoint(_KEYS)


def read_yolo(root: Path, files: Sequence[Path], description: Path | None, report: Report) -> Export:
    """Read the label files below ``root``.

    description: the YAML file; None: classes are named in classes.txt or obj.names.
    Raises ValueError, with one line that starts with the file, where classes or splits are not described.
    """
    labels = [path for path in files if path.suffix.lower() == ".txt" and path.name not in CLASS_FILES]
    if description is None:
        names, keypoints = _read_class_file(root, files), False
        labels_of = _by_folder(root, labels)
    else:
        content = _read_yaml(description)
        names, keypoints = _class_names(content, description), "kpt_shape" in content
        labels_of = _by_description(root, files, labels, content, description)
    if not any(labels_of.values()):
        raise ValueError(f"{description or root}: no label files (*.txt) found for it below {root}")
    n_polygons = 0
    splits: dict[str, list[Record]] = {}
    for split, paths in labels_of.items():
        splits[split] = []
        for path in paths:
            objects, n_found = _read_labels(path, names, keypoints, report)
            n_polygons += n_found
            if objects is not None:
                splits[split].append(Record((path.stem,), path, _near(path), objects, normalized=True))
    recognized = f"YOLO, {n_polygons} polygons as their bounding boxes" if n_polygons else "YOLO"
    return Export(recognized, root, images_among(files), splits, names)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_YAML:
            raise ValueError(f"{path}: is larger than {_MAX_YAML} bytes")
        text = path.read_text(encoding="utf-8-sig")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError(f"{path}: holds an alias (*); write it out")
        content = yaml.load(text, yaml.BaseLoader)  # strings only: a class may be named no
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
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
    found = [path for path in files if path.name in CLASS_FILES]
    if not found:
        raise ValueError(f"{root}: YOLO's labels need a data.yaml or a {CLASS_FILES[0]} that names the classes")
    contents = {path: path.read_text("utf-8-sig", "replace").splitlines() for path in found}
    lists = {path: [line.strip() for line in lines if line.strip()] for path, lines in contents.items()}
    first = found[0]
    for path in found[1:]:
        if lists[path] != lists[first]:
            raise ValueError(f"{first} and {path} name different classes: keep one of them")
    if not lists[first]:
        raise ValueError(f"{first}: names no classes")
    return _distinct(lists[first], first)


def _distinct(names: list[str], path: Path) -> tuple[str, ...]:
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"{path}: names of classes must differ and not be empty, but are {', '.join(names)}")
    return tuple(names)


def _by_folder(root: Path, labels: Sequence[Path]) -> dict[str, list[Path]]:
    """Return label files by the split that their folder is named after, without lists and notes."""
    folders = {path.parent for path in labels if "labels" in path.relative_to(root).parts[:-1]}
    lists = {"train", "valid", "val", "test", "requirements", "license", "labels"}
    splits: dict[str, list[Path]] = {}
    for path in labels:
        is_note = path.stem.lower() in lists or path.stem.lower().startswith("readme")
        if (path.parent in folders) if folders else not is_note:
            splits.setdefault(split_of_folder(path.parent, root), []).append(path)
    return splits


def _by_description(
    root: Path, files: Sequence[Path], labels: Sequence[Path], content: dict[str, Any], path: Path
) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    for key in _KEYS:
        entries = content.get(key)
        if not entries or entries in ("null", "~"):
            continue
        if not isinstance(entries, str | list) or not all(isinstance(each, str) for each in entries):
            raise ValueError(f"{path}: {key} must be a folder, a list of folders, or a file of names")
        for entry in [entries] if isinstance(entries, str) else entries:
            found = _labels_of(entry, (path.parent, root), files, labels, content.get("path"))
            if found is None and key != "test":
                raise ValueError(f"{path}: {key}: there is no {entry!r} below {root}")
            if found is not None:
                splits.setdefault(split_name(key), []).extend(found)
    if not splits:
        raise ValueError(f"{path}: must name a folder or a file for train or val")
    if len(splits) > 1 and splits.get("train") == splits.get("val"):
        # as in ultralytics' first example: the same images for both are not held-out data
        return {UNSPLIT: splits["train"], **{key: each for key, each in splits.items() if key == "test"}}
    return splits


def _labels_of(
    entry: str, roots: Sequence[Path], files: Sequence[Path], labels: Sequence[Path], above: Any
) -> list[Path] | None:
    """Return the label files of a split's entry: a folder of images, or a text file of their names; None if missing."""
    parts = [part for part in entry.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    prefix = [part for part in str(above or "").replace("\\", "/").split("/") if part not in ("", ".", "..")]
    # paths may begin with folders of another machine: the longest end that exists below a root counts
    whole = [*prefix, *parts]
    for root, start in product(roots, range(len(whole))):
        path = root.joinpath(*whole[start:])
        if path in files:
            return _labels_of_list(path, labels)
        if path.is_dir():
            folder = root.joinpath(*_swapped(tuple(whole[start:]), "images", "labels"))
            return [label for label in labels if (folder if folder.is_dir() else path) in label.parents]
    return None


def _labels_of_list(path: Path, labels: Sequence[Path]) -> list[Path]:
    by_stem: dict[str, list[Path]] = {}
    for label in labels:
        by_stem.setdefault(label.stem, []).append(label)
    found: list[Path] = []
    for line in path.read_text("utf-8", "replace").splitlines():
        parts = [part for part in line.strip().replace("\\", "/").split("/") if part]
        if parts:
            wanted = _swapped(tuple(parts[:-1]), "images", "labels")
            candidates = by_stem.get(Path(parts[-1]).stem, [])
            found += sorted(candidates, key=lambda each: each.parent.parts[-1:] != wanted[-1:])[:1]
    return found


def _swapped(parts: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    """Return the folders with the last ``old`` among them replaced."""
    if old not in parts:
        return parts
    last = len(parts) - 1 - parts[::-1].index(old)
    return (*parts[:last], new, *parts[last + 1 :])


def _near(path: Path) -> tuple[Path, ...]:
    return Path(*_swapped(path.parent.parts, "labels", "images")), path.parent


def _read_labels(path: Path, names: Sequence[str], keypoints: bool, report: Report) -> tuple[list[Object] | None, int]:
    """Return the objects of a label file and the number of polygons; report one that is not text and return None."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        report(Issue(IssueKind.BAD_ANNOTATION, f"{path}: not a text file"))
        return None, 0
    objects, n_polygons = [], 0
    for number, line in enumerate((line for line in lines if line.strip()), 1):
        source = f"{path}: object {number}"
        try:
            label, box, is_polygon = _read_line(line, keypoints)
        except ValueError as error:
            report(Issue(IssueKind.BAD_OBJECT, f"{source}: {error}"))
            continue
        if not 0 <= label < len(names):
            report(Issue(IssueKind.UNKNOWN_CLASS, f"{source}: there is no class {label}, only 0 to {len(names) - 1}"))
        elif box[0] >= box[2] or box[1] >= box[3]:
            report(Issue(IssueKind.EMPTY_BOX, f"{source}: the box is empty: {line.strip()[:80]}"))
        else:
            objects.append(Object(source, names[label], box, False))
            n_polygons += is_polygon
    return objects, n_polygons


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
        x, y, width, height = values[1:5]
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if min(box) < -_FAR_OUT or max(box) > 1 + _FAR_OUT:
        raise ValueError(f"must be fractions of the image from 0 to 1, but is {line.strip()[:80]!r}")
    return int(values[0]), box, is_polygon
