"""Annotations as a labeling tool exports them, before their image files are found: what readers return."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.datasets.dataset import Object

UNSPLIT = ""
"""Name of the only split of data without splits."""

_SPLIT = r"(training|train|validation|valid|val|testing|test)(?:\d{2,4})?"
_SPLIT_IN_NAME = re.compile(rf"(?:^|[_\-. ]){_SPLIT}(?=[_\-. ]|$)", re.IGNORECASE)
_CONTENT = "images?|imgs?|jpegimages|labels?|annotations?|xmls?|data|sets?|split|zip"
_SPLIT_FOLDER = re.compile(
    rf"(?:(?:obj|{_CONTENT})[_\-. ]?)*{_SPLIT}(?:[_\-. ]?(?:{_CONTENT}))*", re.IGNORECASE
)  # train, train2017, obj_train_data, test_images
_SPLITS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}


@dataclass(frozen=True)
class Record:
    """One image of an export.

    names: names of the image as the export spells them, possibly with folders of another machine, likeliest first.
    source: the annotation file.
    near: folders to search for the image before all others.
    objects: its objects; empty: labeled, without objects; None: not labeled.
    size: annotated width and height; None where the file has none.
    normalized: whether boxes are fractions of the image's sides.
    upright: whether boxes are drawn on the image as EXIF orients it, whatever ``size`` says.
    path: the image file, where the format fixes it; it may be missing.
    image_id: id of the image, where the format fixes it; None: derived from the file name.
    complete: whether all of its objects could be read; if not, the image is left out: an object without a box would be
        learned as background.
    """

    names: tuple[str, ...]
    source: Path
    near: tuple[Path, ...]
    objects: Sequence[Object] | None
    size: tuple[int, int] | None = None
    normalized: bool = False
    upright: bool = False
    path: Path | None = None
    image_id: str | None = None
    complete: bool = True


@dataclass(frozen=True)
class Export:
    """A dataset as a labeling tool exported it.

    description: the recognized format, for messages.
    root: its folder.
    images: all image files that may belong to it.
    splits: records by the name of the split, ``UNSPLIT`` for data without splits.
    class_names: the classes that the export lists, in its order; None where only objects name them.
    listed: whether the export lists all of its images; else other images in its folders count as unlabeled.
    notes: lines about splits that could not be read, or not in full, for the log.
    """

    description: str
    root: Path
    images: Sequence[Path]
    splits: dict[str, list[Record]]
    class_names: tuple[str, ...] | None = None
    listed: bool = False
    notes: tuple[str, ...] = ()


def split_name(text: str) -> str:
    """Return train, val or test for any usual spelling of these, any other text unchanged."""
    return _SPLITS.get(text.lower(), text.lower() if text.lower() in ("train", "val", "test") else text)


def split_in_name(stem: str) -> str:
    """Return the split that the name of an annotation file contains, ``UNSPLIT`` for none."""
    found = _SPLIT_IN_NAME.search(stem)
    return split_name(found.group(1)) if found else UNSPLIT


def split_of_folder(folder: Path, root: Path) -> str:
    """Return the split that a folder below ``root``, or one of its parents there, is named after."""
    for part in reversed(folder.relative_to(root).parts):
        if found := _SPLIT_FOLDER.fullmatch(part):
            return split_name(found.group(1))
    return UNSPLIT
