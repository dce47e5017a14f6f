"""Data sets of classes as folders: ROOT/CLASS/image.jpg."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.datasets.check import log_faults
from detector.datasets.dataset import Dataset, Fault, Kind, Report, raise_fault


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """Samples and the classes of each. Image files are not opened, and need not exist.

    paths: the image file of each of the N samples.
    targets: (N, K) int8: 1 where the class is in the sample, -1 where it is not, 0 where that is not to be judged.
    class_names: names of the K classes.
    exclusive: whether every sample has exactly one class.
    name: how reports and model files call the data, for example "VOC2007 train".
    boxes: (N, 4) float32 `x1 y1 x2 y2`, pixels, 0-based, half-open: the part of the image; None: all of it.
    Raises ValueError where the arrays do not fit together.
    """

    paths: tuple[Path, ...]
    targets: NDArray[np.int8]
    class_names: tuple[str, ...]
    exclusive: bool
    name: str
    boxes: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        expected = (len(self.paths), len(self.class_names))
        if self.targets.shape != expected:
            raise ValueError(f"targets must have shape {expected}, but got {self.targets.shape}")
        if self.boxes is not None and self.boxes.shape != (len(self.paths), 4):
            raise ValueError(f"boxes must have shape {(len(self.paths), 4)}, but got {self.boxes.shape}")
        if self.exclusive and ((self.targets > 0).sum(axis=1) != 1).any():
            raise ValueError("every sample must have one class where classes are exclusive")

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int]) -> "LabeledImages":
        """Some of the samples, with the same classes."""
        index = np.asarray(rows, np.int64)
        boxes = None if self.boxes is None else self.boxes[index]
        return replace(self, paths=tuple(self.paths[row] for row in rows), targets=self.targets[index], boxes=boxes)


def exclusive_targets(labels: NDArray[np.int64], n_classes: int) -> NDArray[np.int8]:
    """Targets (N, n_classes) of samples that have one class each, the labels (N,)."""
    return np.where(np.arange(n_classes) == labels[:, None], 1, -1).astype(np.int8)


def labeled_images(dataset: Dataset) -> LabeledImages:
    """The images of a data set, each with all classes of its objects.

    A class whose objects in an image are all difficult is not judged there, as the devkit of VOC does it.
    """
    targets = np.full((len(dataset), len(dataset.class_names)), -1, np.int8)
    for row, each in zip(targets, dataset, strict=True):
        row[each.labels] = 0
        row[each.labels[~each.difficult]] = 1
    paths = tuple(each.path for each in dataset)
    return LabeledImages(paths, targets, dataset.class_names, exclusive=False, name=dataset.name)


def labeled_objects(dataset: Dataset) -> LabeledImages:
    """The objects of a data set, cut out of their images, each with its class; difficult ones are left out.

    Raises ValueError where no object is left.
    """
    rows = [(each.path, each.boxes[i], each.labels[i]) for each in dataset for i in np.flatnonzero(~each.difficult)]
    if not rows:
        raise ValueError(f"{dataset.name}: no object is left that is not difficult")
    paths, boxes, labels = zip(*rows, strict=True)
    targets = exclusive_targets(np.array(labels), len(dataset.class_names))
    return LabeledImages(paths, targets, dataset.class_names, True, f"objects of {dataset.name}", np.stack(boxes))


_log = logging.getLogger(__name__)


def load_folders(root: Path | str, is_image: Callable[[Path], bool], report: Report = raise_fault) -> LabeledImages:
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
    return LabeledImages(paths, targets, tuple(images), exclusive=True, name=root.resolve().name)


def load_checked_folders(
    root: Path | str, is_image: Callable[[Path], bool], check: Callable[[Path], object], strict: bool = False
) -> LabeledImages:
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
    return LabeledImages(paths, targets, found.class_names, exclusive=True, name=found.name)


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
