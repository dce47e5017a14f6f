"""What labeling tools write, in one form: records of images whose files are still to be found."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.datasets.dataset import Object

TOOLS = {
    "voc-devkit": "VOC",
    "labelimg": "LabelImg",
    "roboflow-voc": "Roboflow",
    "cvat-voc": "CVAT",
    "label-studio-voc": "Label Studio",
}
"""Formats that say which program wrote VOC's XML, by the name that it has in `voc_exports.ONE_BASED`."""
FORMATS = ("voc", "coco", "yolo", "open-images", *TOOLS)

UNSPLIT = ""
_SPLITS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}


@dataclass(frozen=True)
class Record:
    """What an export says of one image.

    names: names of the image as they are written, possibly with folders of another machine, the likeliest first.
    source: the file that says it.
    near: folders in which the image is looked for before all others.
    objects: its objects; an empty sequence says that there are none, and None that nobody has labeled it.
    size: width and height of the image as annotated; None where the file does not tell.
    normalized: whether boxes are fractions of the image's sides.
    shown: whether boxes are surely on the image as EXIF turns it, whatever ``size`` says.
    """

    names: tuple[str, ...]
    source: Path
    near: tuple[Path, ...]
    objects: Sequence[Object] | None
    size: tuple[int, int] | None = None
    normalized: bool = False
    shown: bool = False


@dataclass(frozen=True)
class Export:
    """A data set as a tool wrote it.

    layout: what it was recognized as, for people.
    root: its folder.
    images: the image files that may belong to it.
    splits: records by the name of the split, ``UNSPLIT`` where the data are one list.
    class_names: the classes that the export lists, in its order; None where only objects name them.
    listed: whether the export lists all its images, so that other files in its folders are no part of it.
    """

    layout: str
    root: Path
    images: Sequence[Path]
    splits: dict[str, list[Record]]
    class_names: tuple[str, ...] | None = None
    listed: bool = False


def split_name(text: str) -> str:
    """The usual name of a split: train, val or test for all words that mean these, else the text itself."""
    return _SPLITS.get(text.lower(), text.lower() if text.lower() in ("train", "val", "test") else text)


def split_of_folder(folder: Path, root: Path) -> str:
    """The split that a folder below ``root``, or one above it there, is named after."""
    for part in reversed(folder.relative_to(root).parts):
        if (name := split_name(part)) in ("train", "val", "test"):
            return name
    return UNSPLIT
