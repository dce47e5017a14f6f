"""Project of a detector being taught: a folder with links to the images, their labels, features and models.

::

    PROJECT/images/         links to the images of the folder that is labeled
    PROJECT/labels.json     labels in COCO's format, written whole after every change
    PROJECT/features/       cached features
    PROJECT/exports/        what was exported
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from detector.datasets.image_finder import files_below, images_among
from detector.images.files import image_size
from detector.teaching.labels import (
    MAX_CLASSES,
    NOTHING,
    Box,
    ImageLabels,
    Size,
    check_class_name,
    count_boxes,
    read_labels,
    write_labels,
)

MAX_IMAGES = 20_000
LABELS = "labels.json"
_IMAGES, _FEATURES, _EXPORTS, _LOCK = "images", "features", "exports", ".lock"


class ProjectImage(NamedTuple):
    """An image of a project: its name, with folders, and the link to its file."""

    name: str
    path: Path


class Project:
    """Images of a folder and their labels, held by one process at a time; safe to use from several threads.

    photos: the folder of the images, subfolders included. folder: the project's, which is created.
    Labels of images that are gone stay in the file. Raises ValueError, in one line, for a folder without images, a
    project that another process holds or that has a link where a file of the project belongs, and for damaged labels;
    OSError where the folder cannot be written.
    """

    def __init__(self, photos: Path, folder: Path) -> None:
        self.photos, self.folder = photos, folder
        names = _image_names(photos, folder)
        folder.mkdir(parents=True, exist_ok=True)
        for part in (_IMAGES, _FEATURES, _EXPORTS, LABELS, _LOCK):
            if (folder / part).is_symlink():
                raise ValueError(f"{folder / part}: must not be a link; remove it, or give another --project")
        self._lock_file = _lock(folder / _LOCK)
        try:
            self._labels, self._sizes, self._class_names = read_labels(folder / LABELS)
            self.images = [ProjectImage(name, _link(photos, folder / _IMAGES, name)) for name in names]
        except BaseException:
            self.close()
            raise
        self._changing = threading.RLock()

    @property
    def features(self) -> Path:
        """Folder of the cached features."""
        return self.folder / _FEATURES

    @property
    def exports(self) -> Path:
        """Folder of exports."""
        return self.folder / _EXPORTS

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order in which they were first used."""
        return tuple(self._class_names)

    def close(self) -> None:
        """Release the lock."""
        with suppress(OSError):
            os.close(self._lock_file)

    def labels(self, number: int) -> ImageLabels:
        """Return the labels of an image, by its number."""
        return self._labels.get(self.images[number].name, NOTHING)

    def size(self, number: int) -> Size:
        """Return height and width of an image. Raises the errors of `image_size`."""
        image = self.images[number]
        if image.name not in self._sizes:
            self._sizes[image.name] = image_size(image.path)
        return self._sizes[image.name]

    def set_labels(self, number: int, labels: ImageLabels) -> None:
        """Replace the labels of an image on disk, then here. Raises ValueError for too many classes, OSError."""
        self.size(number)
        with self._changing:
            self._write({**self._labels, self.images[number].name: labels})

    def add_labels(self, imported: Mapping[int, ImageLabels]) -> None:
        """Replace the labels of several images, by number, at once."""
        with self._changing:
            for number in imported:
                self.size(number)
            self._write({**self._labels, **{self.images[number].name: each for number, each in imported.items()}})

    def rename_class(self, old: str, new: str) -> None:
        """Rename a class everywhere; the name of another class joins both. Raises ValueError for an unknown class."""
        new = check_class_name(new)
        with self._changing:
            if old not in self._class_names:
                raise ValueError(f"there is no class {old!r}")
            renamed = {
                name: ImageLabels(tuple(_renamed(box, old, new) for box in each.boxes), each.done)
                for name, each in self._labels.items()
            }
            self._write(renamed, [new if name == old else name for name in self._class_names])

    def _write(self, labels: dict[str, ImageLabels], class_names: list[str] | None = None) -> None:
        labels = {name: each for name, each in labels.items() if each != NOTHING}
        counts = count_boxes(labels.values())
        # classes without a box are gone, and new ones come last: numbers of the others stay
        names = [name for name in dict.fromkeys(class_names or self._class_names) if name in counts]
        names += [name for name in counts if name not in names]
        if len(names) > MAX_CLASSES:
            raise ValueError(f"there may be at most {MAX_CLASSES} classes")
        write_labels(self.folder / LABELS, labels, self._sizes, names)
        self._labels, self._class_names = labels, names


def _renamed(box: Box, old: str, new: str) -> Box:
    return Box(new, box.corners) if box.class_name == old else box


def _image_names(photos: Path, folder: Path) -> list[str]:
    """Return the names of the images below a folder, without those of the project itself, sorted."""
    own = folder.resolve()
    found = [path for path in images_among(files_below(photos)) if own not in path.resolve().parents]
    names = [path.relative_to(photos).as_posix() for path in found if _is_text(str(path))]
    if not names:
        raise ValueError(f"{photos}: no image found")
    if len(names) > MAX_IMAGES:
        raise ValueError(f"{photos}: holds {len(names)} images, and a project at most {MAX_IMAGES}; give a subfolder")
    return names


def _is_text(name: str) -> bool:
    """Return whether a file name is valid UTF-8, as a COCO file needs it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lock(path: Path) -> int:
    """Lock the project for this process, and return the open file that holds the lock."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        advice = "close that page's server, or give another --project"
        raise ValueError(f"{path.parent}: another spp teach has this project open; {advice}") from None
    return handle


def _link(photos: Path, images: Path, name: str) -> Path:
    """Return the link to an image in the project, where copies stay as they are; create it if it is missing."""
    link, target = images / name, Path(os.path.abspath(photos / name))  # noqa: PTH100 (links stay what they are)
    for part in link.relative_to(images).parents:
        if (images / part).is_symlink():
            raise ValueError(f"{images / part}: must not be a link; remove it, or give another --project")
    if link.is_symlink() and link.readlink() == target:
        return link
    if link.is_symlink() and link.exists():
        other = link.readlink()
        raise ValueError(f"{images.parent}: is the project of other images, such as {other}; give another --project")
    if link.is_symlink():  # its image was moved
        link.unlink()
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    return link
