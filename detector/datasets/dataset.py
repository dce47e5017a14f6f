"""Annotated images: the types that readers return and training and evaluation take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from detector.datasets.issues import Issue, IssueKind, Report
from detector.tiles import Window


@dataclass(frozen=True, eq=False)
class Annotation:
    """One image, or a tile of it, and its objects. The image file is not opened and may be missing.

    image_id: name of the image, unique within its dataset; its tiles share it.
    path: the image file.
    boxes: (N, 4) float32 `x1 y1 x2 y2`, pixels, 0-based, half-open.
    labels: (N,) int64, indices into the dataset's class names.
    difficult: (N,) bool, objects that count neither as found nor as missed (VOC's flag).
    window: the tile, in pixels of which the boxes are; None for the whole image.
    ignored: (N,) bool, objects that are neither trained on nor background, such as those that a tile cuts off;
        None for none.
    Raises ValueError where the arrays do not fit together.
    """

    image_id: str
    path: Path
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    window: Window | None = None
    ignored: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes must have shape (_, 4), but got {boxes.shape}")
        labels, difficult = np.asarray(self.labels, np.int64), np.asarray(self.difficult, np.bool_)
        for name, array in (("labels", labels), ("difficult", difficult), ("ignored", self.ignored)):
            if array is not None and array.shape != boxes.shape[:1]:
                raise ValueError(f"{name} must have shape {boxes.shape[:1]}, but got {array.shape}")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "difficult", difficult)

    def to_bytes(self) -> bytes:
        """Return everything but the path as bytes, for digests."""
        parts: list[Any] = [self.image_id.encode(), self.boxes, self.labels, self.difficult]
        if self.window is not None:
            parts += [repr(tuple(self.window)).encode(), b"" if self.ignored is None else self.ignored]
        return b"".join(bytes(part) for part in parts)


@dataclass(frozen=True, eq=False)
class Dataset(Sequence[Annotation]):
    """A sequence of annotations with common class names. Slices are datasets, too.

    annotations: one per image, in the order of the source.
    class_names: names of the labels 0..K-1.
    name: name of the data in reports and model files, for example "VOC2007 train".
    """

    annotations: Sequence[Annotation]
    class_names: tuple[str, ...]
    name: str

    def __repr__(self) -> str:
        """Return such as "Dataset(pets train: 30 images, 45 objects; 2 classes: cat, dog)"."""
        n_objects = sum(len(each.boxes) for each in self)
        classes = f"{len(self.class_names)} classes: {shortened(self.class_names)}"
        return f"Dataset({self.name}: {len(self)} images, {n_objects} objects; {classes})"

    def __len__(self) -> int:
        return len(self.annotations)

    @overload
    def __getitem__(self, index: int) -> Annotation: ...
    @overload
    def __getitem__(self, index: slice) -> "Dataset": ...

    def __getitem__(self, index: int | slice) -> "Annotation | Dataset":
        if isinstance(index, slice):
            return replace(self, annotations=self.annotations[index])
        return self.annotations[index]

    def __iter__(self) -> Iterator[Annotation]:
        return iter(self.annotations)

    def subset(self, annotations: Sequence[Annotation], name: str) -> "Dataset":
        """Return a dataset of some of the images under another name."""
        return replace(self, annotations=tuple(annotations), name=name)

    def only(self, class_name: str) -> "Dataset":
        """Return the same images with the objects of one class. Raises ValueError for an unknown class."""
        if class_name not in self.class_names:
            raise ValueError(f"{self.name}: no class {class_name!r}; there are {', '.join(self.class_names)}")
        label = self.class_names.index(class_name)
        annotations = []
        for each in self:
            rows = each.labels == label
            zeros = np.zeros(rows.sum(), np.int64)
            annotations.append(replace(each, boxes=each.boxes[rows], labels=zeros, difficult=each.difficult[rows]))
        return Dataset(tuple(annotations), (class_name,), self.name)


class Object(NamedTuple):
    """An object as a reader finds it, before the classes are known.

    source: its file and its place there, as messages begin.
    box: `x1 y1 x2 y2`, pixels, 0-based, half-open.
    """

    source: str
    class_name: str
    box: tuple[float, float, float, float]
    difficult: bool


def annotate(
    image_id: str, path: Path, objects: Sequence[Object], label_of: Mapping[str, int], report: Report
) -> Annotation:
    """Return the annotation of an image; objects of classes not in label_of are reported and left out."""
    known = []
    for each in objects:
        if each.class_name in label_of:
            known.append(each)
        else:
            report(Issue(IssueKind.UNKNOWN_CLASS, f"{each.source}: unknown class {each.class_name!r}"))
    return Annotation(
        image_id,
        path,
        np.array([each.box for each in known], np.float32).reshape(-1, 4),
        np.array([label_of[each.class_name] for each in known], np.int64),
        np.array([each.difficult for each in known], np.bool_),
    )


def shortened(names: Sequence[str]) -> str:
    """Join names by commas; of many, the first five and the last."""
    return ", ".join(names if len(names) <= 7 else [*names[:5], "..", names[-1]])


def labels_by_name(class_names: Sequence[str]) -> dict[str, int]:
    """Return the label of each class. Raises ValueError for a class that is named twice."""
    if len(set(class_names)) < len(class_names):
        raise ValueError(f"class_names must differ from each other, but got {', '.join(class_names)}")
    return {name: label for label, name in enumerate(class_names)}
