"""Data sets into the layouts that others read: COCO's JSON, VOC's devkit, ultralytics' YOLO."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
import yaml

from detector.datasets.assembling import assemble
from detector.datasets.dataset import Annotation, Dataset, raise_fault
from detector.datasets.layouts import read_export
from detector.datasets.readers.voc import annotation_xml
from detector.datasets.readers.yolo import CLASS_FILES
from detector.images.files import SUFFIXES, image_size

Splits = Mapping[str, Dataset]
Names = Mapping[Path, str]


def write_dataset(splits: Splits, folder: Path, format_name: str, overwrite: bool = False) -> None:
    """Write the splits of a data set to a new folder as coco, voc or yolo, with its images.

    Boxes are written to the last bit, and read back before the folder takes its name: whole or not at all. Images are
    linked where the file system can, else copied. Raises FileExistsError where the folder holds something and
    ``overwrite`` is not set, OSError where it cannot be written, and ValueError where it would not read back.
    """
    folder = Path(folder)
    if folder.is_symlink():  # what a link leads to is replaced, not the link
        folder = Path(os.path.realpath(folder))
    write = _WRITERS[format_name]
    names = file_names(splits)
    with _replacing_folder(folder, overwrite) as temporary:
        write(splits, names, temporary)
        _compare(splits, names, temporary, format_name)


def check_new_folder(folder: Path, overwrite: bool) -> None:
    """Raise FileExistsError where there is something at ``folder`` that is not to be overwritten."""
    is_there = folder.exists() or folder.is_symlink()
    if is_there and not (folder.is_dir() and not any(folder.iterdir())) and not overwrite:
        raise FileExistsError(f"{folder}: is there already and not empty; see --overwrite")


@contextmanager
def _replacing_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder that takes the name, and the place, of ``folder`` when the block ends well."""
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


def file_names(splits: Splits) -> dict[Path, str]:
    """A file name for each image of a data set, in one folder: its id, with the suffix of the file."""
    names: dict[Path, str] = {}
    taken = {Path(CLASS_FILES[0]).stem}  # next to YOLO's labels
    for dataset in splits.values():
        for each in dataset:
            if each.path in names:
                continue
            stem = re.sub(r"[\\/:\s]+", "_", each.image_id)
            if Path(stem).suffix.lower() in SUFFIXES:
                stem = stem.replace(".", "_")
            candidate, number = stem, 1
            while candidate.casefold() in taken:
                number += 1
                candidate = f"{stem}_{number}"
            taken.add(candidate.casefold())
            names[each.path] = f"{candidate}{each.path.suffix}"
    return names


def _compare(splits: Splits, names: Names, folder: Path, format_name: str) -> None:
    """Raise ValueError unless the folder reads back as the splits."""
    export = read_export(folder, format_name, raise_fault)
    again = assemble(export, [*export.splits], None, "skip", raise_fault, lambda line: None)
    for split, dataset in splits.items():
        wanted = {names[each.path]: _objects(each, dataset, format_name) for each in dataset}
        there = again.get(split) or Dataset((), (), "")
        found = {each.path.name: _objects(each, there, format_name) for each in there}
        if wanted != found:
            name = next((name for name in wanted if wanted[name] != found.get(name)), "an image more")
            raise ValueError(f"{dataset.name}: {name} cannot be written as {format_name} without a change")


def _objects(each: Annotation, dataset: Dataset, format_name: str) -> list[tuple[object, ...]]:
    """What a format can hold of the objects of an image: YOLO does not know difficult ones."""
    difficult = np.zeros(len(each.labels), bool) if format_name == "yolo" else each.difficult
    names = [dataset.class_names[label] for label in each.labels]
    return list(zip(names, each.boxes.tolist(), difficult.tolist(), strict=True))


def _place(image: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(image.resolve(), target)
    except OSError:
        shutil.copyfile(image, target)


def _number(value: float) -> int | float:
    """Without a point where it is whole; else all digits."""
    return int(value) if value == int(value) else value


def _write_coco(splits: Splits, names: Names, folder: Path) -> None:
    (folder / "annotations").mkdir()
    for split, dataset in splits.items():
        images: list[dict[str, object]] = []
        objects: list[dict[str, object]] = []
        for number, each in enumerate(dataset, 1):
            _place(each.path, folder / "images" / names[each.path])
            height, width = image_size(each.path)
            images.append({"id": number, "file_name": names[each.path], "width": width, "height": height})
            for (x1, y1, x2, y2), label, difficult in zip(
                each.boxes.tolist(), each.labels.tolist(), each.difficult.tolist(), strict=True
            ):
                objects.append(
                    {
                        "id": len(objects) + 1,
                        "image_id": number,
                        "category_id": label + 1,
                        "bbox": [_number(value) for value in (x1, y1, x2 - x1, y2 - y1)],
                        "area": _number((x2 - x1) * (y2 - y1)),
                        "segmentation": [],
                        "iscrowd": int(difficult),
                    }
                )
        categories = [{"id": number, "name": name} for number, name in enumerate(dataset.class_names, 1)]
        content = {"images": images, "annotations": objects, "categories": categories}
        path = folder / "annotations" / f"instances_{split or 'default'}.json"
        path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_voc(splits: Splits, names: Names, folder: Path) -> None:
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for split, dataset in splits.items():
        stems = []
        for each in dataset:
            name = names[each.path]
            stems.append(Path(name).stem)
            _place(each.path, folder / "JPEGImages" / name)
            path = folder / "Annotations" / f"{stems[-1]}.xml"
            path.write_text(_voc_xml(each, dataset, name), encoding="utf-8")
        lists = folder / "ImageSets" / "Main" / f"{split or 'default'}.txt"
        lists.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def _voc_xml(each: Annotation, dataset: Dataset, name: str) -> str:
    names = [dataset.class_names[label] for label in each.labels]
    return annotation_xml(name, image_size(each.path), names, each.boxes, each.difficult.tolist())


def _write_yolo(splits: Splits, names: Names, folder: Path) -> None:
    description: dict[str, object] = {}
    for split, dataset in splits.items():
        part = f"images/{split}" if split else "images"
        # of data without splits all images serve as both, as in ultralytics' own examples
        description |= {split: part} if split else {"train": part, "val": part}
        description["names"] = dict(enumerate(dataset.class_names))
        for each in dataset:
            name = names[each.path]
            _place(each.path, folder / part / name)
            path = folder / part.replace("images", "labels", 1) / f"{Path(name).stem}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_yolo_lines(each), encoding="utf-8")
    # LabelImg looks for the classes next to the labels, Label Studio's converter in the folder itself
    for place in (folder, *{path.parent for path in folder.glob("labels/**/*.txt")}):
        (place / CLASS_FILES[0]).write_text(class_list(next(iter(splits.values())).class_names), encoding="utf-8")
    text = yaml.safe_dump(description, allow_unicode=True, sort_keys=False)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def class_list(class_names: Sequence[str]) -> str:
    """The names of YOLO's classes, one a line, in the order of their labels."""
    return "".join(f"{' '.join(name.split())}\n" for name in class_names)


def _yolo_lines(each: Annotation) -> str:
    height, width = image_size(each.path)
    lines = ""
    for (x1, y1, x2, y2), label in zip(each.boxes.tolist(), each.labels.tolist(), strict=True):
        center = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
        sides = ((x2 - x1) / width, (y2 - y1) / height)
        lines += " ".join(map(repr, (label, *center, *sides))) + "\n"
    return lines


_WRITERS: dict[str, Callable[[Splits, Names, Path], None]] = {
    "coco": _write_coco,
    "voc": _write_voc,
    "yolo": _write_yolo,
}
WRITTEN_FORMATS = tuple(_WRITERS)
