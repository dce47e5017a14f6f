"""Images, or parts of images, with the classes that are in them: what classifiers learn from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.datasets.annotation import Dataset


@dataclass(frozen=True, eq=False)
class LabelledImages:
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

    def take(self, rows: Sequence[int]) -> "LabelledImages":
        """Some of the samples, with the same classes."""
        index = np.asarray(rows, np.int64)
        boxes = None if self.boxes is None else self.boxes[index]
        return replace(self, paths=tuple(self.paths[row] for row in rows), targets=self.targets[index], boxes=boxes)


def exclusive_targets(labels: NDArray[np.int64], n_classes: int) -> NDArray[np.int8]:
    """Targets (N, n_classes) of samples that have one class each, the labels (N,)."""
    return np.where(np.arange(n_classes) == labels[:, None], 1, -1).astype(np.int8)


def labelled_images(dataset: Dataset) -> LabelledImages:
    """The images of a data set, each with all classes of its objects.

    A class whose objects in an image are all difficult is not judged there, as the devkit of VOC does it.
    """
    targets = np.full((len(dataset), len(dataset.class_names)), -1, np.int8)
    for row, each in zip(targets, dataset, strict=True):
        row[each.labels] = 0
        row[each.labels[~each.difficult]] = 1
    paths = tuple(each.path for each in dataset)
    return LabelledImages(paths, targets, dataset.class_names, exclusive=False, name=dataset.name)


def labelled_objects(dataset: Dataset) -> LabelledImages:
    """The objects of a data set, cut out of their images, each with its class; difficult ones are left out.

    Raises ValueError where no object is left.
    """
    rows = [(each.path, each.boxes[i], each.labels[i]) for each in dataset for i in np.flatnonzero(~each.difficult)]
    if not rows:
        raise ValueError(f"{dataset.name}: no object is left that is not difficult")
    paths, boxes, labels = zip(*rows, strict=True)
    targets = exclusive_targets(np.array(labels), len(dataset.class_names))
    return LabelledImages(paths, targets, dataset.class_names, True, f"objects of {dataset.name}", np.stack(boxes))
