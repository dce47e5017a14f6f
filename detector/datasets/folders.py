"""Data sets of classes as folders: ROOT/CLASS/image.jpg."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from detector.datasets.check import log_faults
from detector.datasets.faults import Fault, Kind, Report, raise_fault
from detector.datasets.labelled import LabelledImages, exclusive_targets

_log = logging.getLogger(__name__)


def load_folders(root: Path | str, is_image: Callable[[Path], bool], report: Report = raise_fault) -> LabelledImages:
    """The images of all folders directly in root; the class of an image is the name of its folder.

    is_image: whether a file is one, told by its name. Other files, hidden ones and hidden folders are passed over;
        folders in the folders are part of the class.
    report: what to do about a folder without images. Where it returns, the class is left out.
    Classes and images are in the order of their names. Image files are not opened. Raises FileNotFoundError for a
    missing root and ValueError for one without two classes.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    images: dict[str, list[Path]] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found = sorted(path for path in _files(folder) if is_image(path))
        if found:
            images[folder.name] = found
        else:
            report(Fault(Kind.NO_IMAGE, f"{folder}: no image found"))
    if len(images) < 2:
        raise ValueError(f"{root}: must hold folders of images, one a class, at least two; found {len(images)}")
    paths = tuple(path for found in images.values() for path in found)
    labels = np.repeat(np.arange(len(images)), [len(found) for found in images.values()])
    targets = exclusive_targets(labels, len(images))
    return LabelledImages(paths, targets, tuple(images), exclusive=True, name=root.resolve().name)


def load_checked_folders(
    root: Path | str, is_image: Callable[[Path], bool], check: Callable[[Path], object], strict: bool = False
) -> LabelledImages:
    """`load_folders` without the images that ``check`` refuses.

    check: opens an image, or its header; raises OSError or ValueError, with one line that opens with the path.
    strict: whether a fault is an error.
    Faults are logged as warnings, a line each, the first ones of each kind. Raises also ValueError where strict is set
    and a fault is found, and where a class has no image left.
    """
    faults: list[Fault] = []
    found = load_folders(root, is_image, faults.append)
    sound = np.array([_is_sound(path, check, faults.append) for path in found.paths])
    summary = log_faults(found.name, faults, strict)
    targets = found.targets[sound]
    for name, is_in in zip(found.class_names, (targets > 0).any(axis=0), strict=True):
        if not is_in:
            raise ValueError(f"{root}: no image of class {name!r} can be read")
    if faults:
        _log.warning("%s: found %s; going on with %d images", found.name, summary, len(targets))
    paths = tuple(path for path, is_sound in zip(found.paths, sound, strict=True) if is_sound)
    return LabelledImages(paths, targets, found.class_names, exclusive=True, name=found.name)


def _files(folder: Path) -> Iterator[Path]:
    """Files at any depth below a folder, without what is hidden."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _is_sound(path: Path, check: Callable[[Path], object], report: Report) -> bool:
    try:
        check(path)
    except (OSError, ValueError) as error:
        report(Fault(Kind.BAD_IMAGE, str(error)))
        return False
    return True
