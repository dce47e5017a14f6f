"""Write datasets as COCO's JSON, VOC's devkit, or ultralytics' YOLO; and the parts that result files share."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from detector.boxes import Boxes, to_one_based
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.format_detection import read_export
from detector.datasets.issues import raise_issue
from detector.datasets.readers.voc import CORNERS
from detector.datasets.readers.yolo import CLASS_FILES
from detector.datasets.resolving import resolve
from detector.images.files import SUFFIXES, image_size

Splits = Mapping[str, Dataset]
Names = Mapping[Path, str]


def write_dataset(splits: Splits, folder: Path, format_name: str, overwrite: bool = False) -> None:
    """Write the splits of a dataset to a new folder as coco, voc or yolo, with its images.

    Boxes are written exactly, and read back before the folder gets its name: it appears whole or not at all. Images are
    hard-linked where possible, else copied. Raises FileExistsError where the folder is not empty and ``overwrite`` is
    not set, OSError where it cannot be written, and ValueError where it would not read back equal.
    """
    folder = Path(folder)
    if folder.is_symlink():  # the target of a link is replaced, not the link
        folder = Path(os.path.realpath(folder))
    write = _WRITERS[format_name]
    names = _file_names(splits)
    with _replacing_folder(folder, overwrite) as temporary:
        write(splits, names, temporary)
        _compare(splits, names, temporary, format_name)


def check_new_folder(folder: Path, overwrite: bool) -> None:
    """Raise FileExistsError where ``folder`` exists, is not empty, and is not to be overwritten."""
    is_there = folder.exists() or folder.is_symlink()
    if is_there and not (folder.is_dir() and not any(folder.iterdir())) and not overwrite:
        raise FileExistsError(f"{folder}: exists and is not empty; see --overwrite")


@contextmanager
def _replacing_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder that replaces ``folder`` when the block succeeds."""
    check_new_folder(folder, overwrite)
    is_there = folder.exists() or folder.is_symlink()
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    mark = uuid4().hex[:12]
    temporary, old = (folder.with_name(f".{folder.name}.{mark}.{kind}") for kind in ("tmp", "old"))
    temporary.mkdir()
    try:
        yield temporary
        if is_there:
            folder.rename(old)
        try:
            temporary.rename(folder)
        except OSError:
            if is_there:
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)


def _file_names(splits: Splits) -> dict[Path, str]:
    """Return a file name for each image, unique in one folder: its id with the suffix of the file."""
    names: dict[Path, str] = {}
    taken = {Path(CLASS_FILES[0]).stem}  # next to YOLO's labels
    for dataset in splits.values():
        for each in dataset:
            if each.path in names:
                continue
            stem = file_stem(each.image_id)
            candidate, number = stem, 1
            while candidate.casefold() in taken:
                number += 1
                candidate = f"{stem}_{number}"
            taken.add(candidate.casefold())
            names[each.path] = f"{candidate}{each.path.suffix}"
    return names


def file_stem(image_id: str) -> str:
    """Return the stem of the file of an image, which has no folders and no blanks."""
    stem = re.sub(r"[\\/:\s]+", "_", image_id)
    return stem.replace(".", "_") if Path(stem).suffix.lower() in SUFFIXES else stem


def _compare(splits: Splits, names: Names, folder: Path, format_name: str) -> None:
    """Raise ValueError unless the folder reads back as the splits."""
    export = read_export(folder, format_name, raise_issue)
    again = resolve(export, [*export.splits], None, raise_issue, lambda line: None)
    for split, dataset in splits.items():
        wanted = {names[each.path]: _objects(each, dataset, format_name) for each in dataset}
        there = again.get(split) or Dataset((), (), "")
        found = {each.path.name: _objects(each, there, format_name) for each in there}
        if wanted != found:
            name = next((name for name in wanted if wanted[name] != found.get(name)), "another image")
            raise ValueError(f"{dataset.name}: {name} cannot be written as {format_name} without a change")


def _objects(each: Annotation, dataset: Dataset, format_name: str) -> list[tuple[object, ...]]:
    """Return the objects of an image as the format can hold them: YOLO has no difficult ones."""
    difficult = np.zeros(len(each.labels), bool) if format_name == "yolo" else each.difficult
    names = [dataset.class_names[label] for label in each.labels]
    return list(zip(names, each.boxes.tolist(), difficult.tolist(), strict=True))


def _link(image: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(image.resolve(), target)
    except OSError:
        shutil.copyfile(image, target)


def _write_coco(splits: Splits, names: Names, folder: Path) -> None:
    (folder / "annotations").mkdir()
    for split, dataset in splits.items():
        images: list[dict[str, object]] = []
        objects: list[dict[str, object]] = []
        for number, each in enumerate(dataset, 1):
            _link(each.path, folder / "images" / names[each.path])
            height, width = image_size(each.path)
            images.append({"id": number, "file_name": names[each.path], "width": width, "height": height})
            for box, label, difficult in zip(
                each.boxes.tolist(), each.labels.tolist(), each.difficult.tolist(), strict=True
            ):
                row = coco_object(len(objects) + 1, number, label, box, difficult)
                row |= {"bbox": [_number(value) for value in row["bbox"]], "area": _number(row["area"])}
                objects.append({**row, "segmentation": []})
        content = {"images": images, "annotations": objects, "categories": coco_categories(dataset.class_names)}
        path = folder / "annotations" / f"instances_{split or 'default'}.json"
        path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def _number(value: float) -> int | float:
    """Return a whole number as an int."""
    return int(value) if value == int(value) else value


def coco_object(number: int, image: int, label: int, box: Sequence[float], difficult: bool = False) -> dict[str, Any]:
    """Return the entry of an object in COCO's list of annotations.

    number, image: its id and that of its image. box: corners `x1 y1 x2 y2`.
    """
    x1, y1, x2, y2 = box
    return {
        "id": number,
        "image_id": image,
        "category_id": label + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": int(difficult),
    }


def coco_categories(class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return COCO's list of categories, with the ids of `coco_object`."""
    return [{"id": number, "name": name} for number, name in enumerate(class_names, 1)]


def _write_voc(splits: Splits, names: Names, folder: Path) -> None:
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for split, dataset in splits.items():
        stems = []
        for each in dataset:
            name = names[each.path]
            stems.append(Path(name).stem)
            _link(each.path, folder / "JPEGImages" / name)
            class_names = [dataset.class_names[label] for label in each.labels]
            text = voc_xml(name, image_size(each.path), class_names, each.boxes, each.difficult.tolist())
            (folder / "Annotations" / f"{stems[-1]}.xml").write_text(text, encoding="utf-8")
        lists = folder / "ImageSets" / "Main" / f"{split or 'default'}.txt"
        lists.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def voc_xml(
    file_name: str, size: tuple[int, int], class_names: Iterable[str], boxes: ArrayLike, difficult: Iterable[bool]
) -> str:
    """Return the annotation file of an image; corners read back to the same float32.

    size: height and width. class_names, boxes, difficult: a name, a row of ``(N, 4)`` and a flag for each object.
    Characters that XML cannot hold are replaced.
    """
    root = Element("annotation")
    _add(root, filename=_in_xml(file_name))
    height, width = size
    _add(SubElement(root, "size"), width=width, height=height, depth=3)
    for name, corners, flag in zip(class_names, to_one_based(boxes).tolist(), difficult, strict=True):
        element = SubElement(root, "object")
        _add(element, name=_in_xml(name), pose="Unspecified", truncated=0, difficult=int(flag))
        # 12 decimals are more than a float32 plus 1 needs
        texts = (repr(round(corner, 12)).removesuffix(".0") for corner in corners)
        _add(SubElement(element, "bndbox"), **dict(zip(CORNERS, texts, strict=True)))
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _add(element: Element, **texts: object) -> None:
    for tag, text in texts.items():
        SubElement(element, tag).text = str(text)


def _in_xml(text: str) -> str:
    # a path may hold bytes that are not UTF-8
    decoded = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in decoded)


def _write_yolo(splits: Splits, names: Names, folder: Path) -> None:
    description: dict[str, object] = {}
    for split, dataset in splits.items():
        part = f"images/{split}" if split else "images"
        # without splits, all images serve as both, as in ultralytics' own examples
        description |= {split: part} if split else {"train": part, "val": part}
        description["names"] = dict(enumerate(dataset.class_names))
        for each in dataset:
            name = names[each.path]
            _link(each.path, folder / part / name)
            path = folder / part.replace("images", "labels", 1) / f"{Path(name).stem}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yolo_lines(each.labels, each.boxes, image_size(each.path)), encoding="utf-8")
    # LabelImg reads the classes next to the labels, Label Studio's converter in the folder itself
    for parent in (folder, *{path.parent for path in folder.glob("labels/**/*.txt")}):
        (parent / CLASS_FILES[0]).write_text(class_list(next(iter(splits.values())).class_names), encoding="utf-8")
    text = yaml.safe_dump(description, allow_unicode=True, sort_keys=False)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def class_list(class_names: Sequence[str]) -> str:
    """Return YOLO's list of classes, one per line, in the order of their labels."""
    return "".join(f"{' '.join(name.split())}\n" for name in class_names)


def yolo_lines(
    labels: NDArray[np.int64], boxes: Boxes, size: tuple[int, int], number: Callable[[float], str] = repr
) -> str:
    """Return YOLO's lines ``class x y width height``: centers and sides as fractions of the image.

    size: height and width. number: formats each fraction; by default exactly.
    """
    height, width = size
    lines = ""
    for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
        center = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
        sides = ((x2 - x1) / width, (y2 - y1) / height)
        lines += " ".join([str(label), *map(number, (*center, *sides))]) + "\n"
    return lines


_WRITERS: dict[str, Callable[[Splits, Names, Path], None]] = {
    "coco": _write_coco,
    "voc": _write_voc,
    "yolo": _write_yolo,
}
WRITTEN_FORMATS = tuple(_WRITERS)
