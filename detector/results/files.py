"""Which names results get in a folder: never twice the same, never that of an input, never that of others' files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.boxes import clip
from detector.datasets.readers.voc import annotation_xml
from detector.datasets.writing import class_list
from detector.detections import Detections
from detector.images.files import write_image
from detector.results.streams import whole_text

_OURS = ".spp detect"
LONGEST_NAME = 255
"""Bytes, on all common file systems."""
_NUMBERS = 32
"""Bytes that are left for a number and an ending."""


class ResultFolder:
    """A folder for results. A hidden file in it lists what was written by this program, and may be replaced by it.

    inputs: files that are read, which no result replaces.
    overwrite: whether results may replace other files, too, but for inputs.
    """

    def __init__(self, folder: Path, inputs: Iterable[Path], overwrite: bool = False) -> None:
        self.folder = folder
        self._overwrite = overwrite
        self._taken = {os.path.realpath(path) for path in inputs}
        self._ours = _listed(folder)

    def may_write(self, path: Path) -> bool:
        """Whether a name is free: not taken by this run, and of no file or of one that may be replaced."""
        if os.path.realpath(path) in self._taken:
            return False
        return self._overwrite or not os.path.lexists(path) or self._name(path) in self._ours

    def take(self, path: Path) -> None:
        """Make a name that is free ours, and the folders that it lies in."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._taken.add(os.path.realpath(path))
        if (name := self._name(path)) not in self._ours:
            _append(self.folder / _OURS, os.fsencode(f"{name}\0"))
            self._ours.add(name)

    def fixed(self, name: str) -> Path:
        """A file of this name and no other, taken. Raises ValueError where it is not free."""
        self.check([name])
        self.take(self.folder / name)
        return self.folder / name

    def check(self, names: Iterable[str]) -> None:
        """Raise ValueError, before any of them is taken, where names are not free."""
        for path in (self.folder / name for name in names):
            if os.path.realpath(path) in self._taken:
                raise ValueError(f"{path} would replace what is read, or written already")
            if not self.may_write(path):
                raise ValueError(f"{path} is there, and not written by this program; say --overwrite to replace it")

    def numbered(self, stem: str, patterns: Sequence[str]) -> list[Path]:
        """Free files of a stem, taken: of each pattern, such as "voc/*.xml", with the stem for the star.

        All get the same number, such as "voc/dog_2.xml", where a name is not free.
        """
        number = 1
        while True:
            name = fitting(stem) if number == 1 else f"{fitting(stem)}_{number}"
            paths = [self.folder / pattern.replace("*", name) for pattern in patterns]
            if all(map(self.may_write, paths)):
                for path in paths:
                    self.take(path)
                return paths
            number += 1

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def _listed(folder: Path) -> set[str]:
    list_of_ours = folder / _OURS
    return set(os.fsdecode(list_of_ours.read_bytes()).split("\0")) if list_of_ours.is_file() else set()


def _append(path: Path, data: bytes) -> None:
    """Append all of the data, or nothing. Raises OSError, which names the file."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError as error:
            file.truncate(before)
            raise OSError(error.errno, error.strerror, str(path)) from error


def is_listed(path: Path) -> bool:
    """Whether a file is empty, or on the list of its folder."""
    return path.name in _listed(path.parent) or path.stat().st_size == 0


def fitting(stem: str) -> str:
    """The start of a stem that leaves room for a number and an ending in the name of a file."""
    return os.fsdecode(os.fsencode(stem)[: LONGEST_NAME - _NUMBERS])


def folder_name(class_name: str) -> str:
    """A class name as that of a folder: what could lead elsewhere or is no letter becomes an underscore."""
    name = "".join(letter if letter.isprintable() and letter not in '/\\:*?"<>|' else "_" for letter in class_name)
    return fitting(name).strip(". ") or "_"


def write_voc(path: Path, image_path: Path, image: NDArray[np.uint8], found: Detections) -> None:
    """An annotation of VOC, corners 1-based and inclusive, to a hundredth of a pixel."""
    height, width = image.shape[:2]
    boxes = np.round(clip(found.boxes, height, width).astype(float), 2)
    names = [each.class_name for each in found]
    with whole_text(path) as file:
        file.write(annotation_xml(image_path.name, (height, width), names, boxes, [False] * len(found)))


def write_yolo(path: Path, image: NDArray[np.uint8], found: Detections) -> None:
    """A line ``class x y width height`` a detection: center and sides as parts of the image. None: an empty file."""
    height, width = image.shape[:2]
    boxes = clip(found.boxes, height, width).astype(float) / [width, height, width, height]
    centers, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    with whole_text(path) as file:
        for label, (x, y), (w, h) in zip(found.labels, centers, sides, strict=True):
            print(f"{label} {x:.6f} {y:.6f} {w:.6f} {h:.6f}", file=file)


def write_class_names(path: Path, class_names: Sequence[str]) -> None:
    """The names of the classes of YOLO's lines, one a line, in the order of their labels."""
    with whole_text(path) as file:
        file.write(class_list(class_names))


def write_crops(folder: ResultFolder, stem: str, suffix: str, image: NDArray[np.uint8], found: Detections) -> None:
    """What is in every box as an image of its own, in a folder for each class; best first."""
    height, width = image.shape[:2]
    for each, box in zip(found, clip(found.boxes, height, width), strict=True):
        x1, y1 = np.floor(box[:2]).astype(int)
        x2, y2 = np.ceil(box[2:]).astype(int)
        if x2 > x1 and y2 > y1:
            (path,) = folder.numbered(stem, [f"crops/{folder_name(each.class_name)}/*{suffix}"])
            write_image(path, np.ascontiguousarray(image[y1:y2, x1:x2]))
