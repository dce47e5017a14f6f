"""What a data set says about its images: where they lie, and which objects are in them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, NoReturn, overload

import numpy as np
from numpy.typing import NDArray


class Kind(StrEnum):
    """The kinds of faults, as summaries name them."""

    MISSING_ANNOTATION = "missing annotation"
    BAD_ANNOTATION = "unreadable annotation"
    BAD_OBJECT = "unreadable object"
    EMPTY_BOX = "box without area"
    UNKNOWN_CLASS = "unknown class"
    MISSING_IMAGE = "missing image"
    BAD_IMAGE = "unreadable image"
    OUTSIDE = "box outside of the image"
    NO_OBJECT = "class without objects"
    NO_IMAGE = "class without images"
    AMBIGUOUS_IMAGE = "image name that is not unique"
    WRONG_SIZE = "image of another size than annotated"
    TINY_BOX = "tiny box"
    WHOLE_IMAGE = "box of the whole image"
    DOUBLED_BOX = "doubled box"
    NEAR_DUPLICATE = "near-duplicate images across splits"


REMEDIES = {
    Kind.MISSING_ANNOTATION: "export again, or take the image out of the list",
    Kind.BAD_ANNOTATION: "export again: the file is cut off or of another form",
    Kind.BAD_OBJECT: "correct the object in the labeling tool and export again",
    Kind.EMPTY_BOX: "draw the box again, or delete it",
    Kind.UNKNOWN_CLASS: "rename the class, or add it to the list of classes",
    Kind.MISSING_IMAGE: "put the image anywhere below the folder, under this name",
    Kind.BAD_IMAGE: "save the image again, or delete it with its annotation",
    Kind.OUTSIDE: "draw the box again: only what is inside of the image is used",
    Kind.NO_OBJECT: "label objects of the class, or take it out of the list of classes",
    Kind.NO_IMAGE: "add images of the class, or take its folder away",
    Kind.AMBIGUOUS_IMAGE: "rename or remove all but one of the images",
    Kind.WRONG_SIZE: "put the image that was labeled in place of the resized one, or label it again",
    Kind.TINY_BOX: "delete it if it came of a stray click",
    Kind.WHOLE_IMAGE: "draw the object's own outline, if the box is a label of the whole image",
    Kind.DOUBLED_BOX: "delete one of the two",
    Kind.NEAR_DUPLICATE: "keep both images in one split, or the score of the other one is too good",
}
"""What its owner can do about each kind of fault."""


class Fault(NamedTuple):
    """One fault: its kind, and one line that opens with the file, or the data set, at fault."""

    kind: Kind
    line: str


Report = Callable[[Fault], None]


def raise_fault(fault: Fault) -> NoReturn:
    """Raise FileNotFoundError for a missing file and ValueError for any other fault."""
    missing = fault.kind in (Kind.MISSING_ANNOTATION, Kind.MISSING_IMAGE)
    raise (FileNotFoundError if missing else ValueError)(fault.line)


@dataclass(frozen=True, eq=False)
class Annotation:
    """One image and its objects. The image file itself is not opened, and need not exist.

    image_id: the image's name within its data set, unique there.
    path: the image file.
    boxes: (N, 4) float32 `x1 y1 x2 y2`, pixels, 0-based, half-open.
    labels: (N,) int64, indices into the data set's class names.
    difficult: (N,) bool, objects that neither count as missed nor as found (VOC's flag).
    Raises ValueError where the arrays do not fit together.
    """

    image_id: str
    path: Path
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes must have shape (_, 4), but got {boxes.shape}")
        labels, difficult = np.asarray(self.labels, np.int64), np.asarray(self.difficult, np.bool_)
        for name, array in (("labels", labels), ("difficult", difficult)):
            if array.shape != boxes.shape[:1]:
                raise ValueError(f"{name} must have shape {boxes.shape[:1]}, but got {array.shape}")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "difficult", difficult)

    def to_bytes(self) -> bytes:
        """All that it says of the image but the path, for digests."""
        parts = (self.image_id.encode(), self.boxes, self.labels, self.difficult)
        return b"".join(bytes(part) for part in parts)


@dataclass(frozen=True, eq=False)
class Dataset(Sequence[Annotation]):
    """A sequence of annotations that share their class names; a slice of it is a data set, too.

    annotations: one for each image, in the order of the data set's list.
    class_names: names of the labels 0..K-1.
    name: how reports and model files call the data, for example "VOC2007 train".
    """

    annotations: Sequence[Annotation]
    class_names: tuple[str, ...]
    name: str

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

    def only(self, class_name: str) -> "Dataset":
        """The same images with the objects of one class alone. Raises ValueError for a class that is not there."""
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

    source: the file that holds it and the place there, as error messages begin.
    box: `x1 y1 x2 y2`, pixels, 0-based, half-open.
    """

    source: str
    class_name: str
    box: tuple[float, float, float, float]
    difficult: bool


def annotate(
    image_id: str, path: Path, objects: Sequence[Object], label_of: Mapping[str, int], report: Report
) -> Annotation:
    """The annotation of an image; objects of classes that are not in label_of are reported and left out."""
    known = []
    for each in objects:
        if each.class_name in label_of:
            known.append(each)
        else:
            report(Fault(Kind.UNKNOWN_CLASS, f"{each.source}: unknown class {each.class_name!r}"))
    return Annotation(
        image_id,
        path,
        np.array([each.box for each in known], np.float32).reshape(-1, 4),
        np.array([label_of[each.class_name] for each in known], np.int64),
        np.array([each.difficult for each in known], np.bool_),
    )


def labels_by_name(class_names: Sequence[str]) -> dict[str, int]:
    """The label of each class. Raises ValueError for a class that is named twice."""
    if len(set(class_names)) < len(class_names):
        raise ValueError(f"class_names must differ from each other, but got {', '.join(class_names)}")
    return {name: label for label, name in enumerate(class_names)}
