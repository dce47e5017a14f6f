"""A folder for results that never replaces inputs or files of others, and the files of one image in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.boxes import clip
from detector.datasets.writing import class_list, voc_xml, yolo_lines
from detector.detections import Detections
from detector.images.files import write_image
from detector.results.streams import whole_text
from detector.runtime.files import MAX_NAME, RESULTS_MARK

_RESERVED = 32  # bytes for a number and a suffix


class ResultFolder:
    """A folder for results. A hidden file in it lists those of earlier runs, which may be replaced.

    inputs: files that are read, which no result replaces.
    overwrite: whether results may also replace files of others, except inputs.
    """

    def __init__(self, folder: Path, inputs: Iterable[Path], overwrite: bool = False) -> None:
        self.folder = folder
        self._overwrite = overwrite
        self._taken = {os.path.realpath(path) for path in inputs}
        self._ours = _listed(folder)

    def may_write(self, path: Path) -> bool:
        """Return whether a name is free: not taken by this run, and of no file or one that may be replaced."""
        if os.path.realpath(path) in self._taken:
            return False
        return self._overwrite or not os.path.lexists(path) or self._name(path) in self._ours

    def take(self, path: Path) -> None:
        """Reserve a free name for this run, and create its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._taken.add(os.path.realpath(path))
        if (name := self._name(path)) not in self._ours:
            _append(self.folder / RESULTS_MARK, os.fsencode(f"{name}\0"))
            self._ours.add(name)

    def fixed(self, name: str) -> Path:
        """Reserve exactly this name and return its path. Raises ValueError where it is not free."""
        self.check([name])
        self.take(self.folder / name)
        return self.folder / name

    def check(self, names: Iterable[str]) -> None:
        """Raise ValueError where one of the names is not free."""
        for path in (self.folder / name for name in names):
            if os.path.realpath(path) in self._taken:
                raise ValueError(f"{path} would replace an input or another result")
            if not self.may_write(path):
                raise ValueError(f"{path} exists and was not written by this program; --overwrite replaces it")

    def numbered(self, stem: str, patterns: Sequence[str]) -> list[Path]:
        """Reserve a name for each pattern, such as "voc/*.xml", with the stem for the star, and return the paths.

        All get the same number, such as "voc/dog_2.xml", if a name is not free.
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
    list_of_ours = folder / RESULTS_MARK
    return set(os.fsdecode(list_of_ours.read_bytes()).split("\0")) if list_of_ours.is_file() else set()


def _append(path: Path, data: bytes) -> None:
    """Append all of the data or nothing. Raises OSError, which names the file."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError as error:
            file.truncate(before)
            raise OSError(error.errno, error.strerror, str(path)) from error


def is_listed(path: Path) -> bool:
    """Return whether a file is empty or was written by this program."""
    return path.name in _listed(path.parent) or path.stat().st_size == 0


def fitting(stem: str) -> str:
    """Return a stem, shortened to leave room for a number and a suffix in a file name."""
    return os.fsdecode(os.fsencode(stem)[: MAX_NAME - _RESERVED])


def label_stems(images: Sequence[Path]) -> dict[Path, str]:
    """Return the names of the label files of images, without ending: these pair with their images by name.

    Images of one name in several folders keep the folders below the common one. Raises ValueError for two images whose
    names differ only in their endings.
    """
    stems = {image: image.stem for image in images}
    if len(set(stems.values())) < len(stems):
        root = os.path.commonpath([os.path.abspath(image.parent) for image in images])  # noqa: PTH100 (also of URLs)
        stems = {image: os.path.relpath(image.with_suffix(""), root) for image in images}
    owners: dict[str, Path] = {}
    for image, stem in stems.items():
        other = owners.setdefault(stem, image)
        if other != image:
            raise ValueError(f"{other} and {image} would share one file of labels, {stem}: rename one of the images")
    return stems


def folder_name(class_name: str) -> str:
    """Return a class name as that of a folder, with special and unprintable characters as underscores."""
    name = "".join(letter if letter.isprintable() and letter not in '/\\:*?"<>|' else "_" for letter in class_name)
    return fitting(name).strip(". ") or "_"


def write_voc(path: Path, image_path: Path, image: NDArray[np.uint8], found: Detections) -> None:
    """Write a VOC annotation: corners 1-based and inclusive, to a hundredth of a pixel."""
    size = image.shape[:2]
    boxes = np.round(clip(found.boxes, *size).astype(float), 2)
    names = [each.class_name for each in found]
    with whole_text(path) as file:
        file.write(voc_xml(image_path.name, size, names, boxes, [False] * len(found)))


def write_yolo(path: Path, image: NDArray[np.uint8], found: Detections) -> None:
    """Write a line ``class x y width height`` for each detection, as fractions of the image to six decimals."""
    size = image.shape[:2]
    with whole_text(path) as file:
        file.write(yolo_lines(found.labels, clip(found.boxes, *size), size, "{:.6f}".format))


def write_class_names(path: Path, class_names: Sequence[str]) -> None:
    """Write the class names of YOLO's labels, one per line."""
    with whole_text(path) as file:
        file.write(class_list(class_names))


def write_crops(folder: ResultFolder, stem: str, suffix: str, image: NDArray[np.uint8], found: Detections) -> None:
    """Write the content of each box as an image, in a folder for each class, best first."""
    height, width = image.shape[:2]
    for each, box in zip(found, clip(found.boxes, height, width), strict=True):
        x1, y1 = np.floor(box[:2]).astype(int)
        x2, y2 = np.ceil(box[2:]).astype(int)
        if x2 > x1 and y2 > y1:
            (path,) = folder.numbered(stem, [f"crops/{folder_name(each.class_name)}/*{suffix}"])
            write_image(path, np.ascontiguousarray(image[y1:y2, x1:x2]))
