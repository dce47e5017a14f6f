"""Images with class labels: from folders named after classes, or from the objects of a dataset."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Dataset
from detector.datasets.image_finder import files_below, images_among
from detector.datasets.issues import Issue, IssueKind, count_issues, log_issues
from detector.images.files import image_header

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """Samples and their classes. Image files are not opened and may be missing.

    paths: the image file of each of the N samples.
    targets: (N, K) int8: 1 where the class is in the sample, -1 where it is not, 0 where it is ignored.
    class_names: names of the K classes.
    exclusive: whether every sample has exactly one class.
    name: name of the data in reports and model files, for example "VOC2007 train".
    boxes: (N, 4) float32 `x1 y1 x2 y2`, pixels, 0-based, half-open: the part of the image; None: the whole image.
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
        """Return some of the samples, with the same classes."""
        index = np.asarray(rows, np.int64)
        boxes = None if self.boxes is None else self.boxes[index]
        return replace(self, paths=tuple(self.paths[row] for row in rows), targets=self.targets[index], boxes=boxes)


def exclusive_targets(labels: NDArray[np.int64], n_classes: int) -> NDArray[np.int8]:
    """Return targets (N, n_classes) of samples with one class each, their labels (N,)."""
    return np.where(np.arange(n_classes) == labels[:, None], 1, -1).astype(np.int8)


def labeled_images(dataset: Dataset) -> LabeledImages:
    """Return the images of a dataset, each with all classes of its objects.

    A class whose objects in an image are all difficult is ignored there, as in VOC's devkit.
    """
    targets = np.full((len(dataset), len(dataset.class_names)), -1, np.int8)
    for row, each in zip(targets, dataset, strict=True):
        row[each.labels] = 0
        row[each.labels[~each.difficult]] = 1
    paths = tuple(each.path for each in dataset)
    return LabeledImages(paths, targets, dataset.class_names, exclusive=False, name=dataset.name)


def labeled_objects(dataset: Dataset) -> LabeledImages:
    """Return the objects of a dataset that are not difficult, as parts of their images, each with its class.

    Raises ValueError where no object is left.
    """
    rows = [(each.path, each.boxes[i], each.labels[i]) for each in dataset for i in np.flatnonzero(~each.difficult)]
    if not rows:
        raise ValueError(f"{dataset.name}: all objects are difficult")
    paths, boxes, labels = zip(*rows, strict=True)
    targets = exclusive_targets(np.array(labels), len(dataset.class_names))
    return LabeledImages(paths, targets, dataset.class_names, True, f"objects of {dataset.name}", np.stack(boxes))


def load_folders(root: Path | str, strict: bool = False) -> LabeledImages:
    """Return the images of all folders directly in root; an image's class is the name of its folder.

    Folders in the folders are part of the class; other files and what is hidden are skipped. Folders without images,
    and images whose header cannot be read, are logged as warnings and left out. Classes and images are in the order of
    their names. Raises FileNotFoundError for a missing root, and ValueError for one without two classes, where a class
    has no readable image, and where strict is set and there is an issue.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    name = root.resolve().name
    issues: list[Issue] = []
    images: dict[str, list[Path]] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if found := images_among(files_below(folder)):
            images[folder.name] = found
        else:
            issues.append(Issue(IssueKind.NO_IMAGE, f"{folder}: no image found"))
    if len(images) < 2:
        raise ValueError(f"{root}: must hold a folder of images for each class, at least two; found {len(images)}")
    readable = {each: [path for path in found if _is_readable(path, issues)] for each, found in images.items()}
    log_issues(name, issues, strict)
    for each, found in readable.items():
        if not found:
            raise ValueError(f"{root}: no image of class {each!r} can be read")
    paths = tuple(path for found in readable.values() for path in found)
    labels = np.repeat(np.arange(len(images)), [len(found) for found in readable.values()])
    if issues:
        _log.warning("%s: found %s; going on with %d images", name, count_issues(issues), len(paths))
    return LabeledImages(paths, exclusive_targets(labels, len(images)), tuple(images), exclusive=True, name=name)


def _is_readable(path: Path, issues: list[Issue]) -> bool:
    try:
        image_header(path)
    except (OSError, ValueError) as error:
        issues.append(Issue(IssueKind.BAD_IMAGE, str(error)))
        return False
    return True
