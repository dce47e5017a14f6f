"""What can be wrong with a data set, and what becomes of it: an error, or an entry in somebody's list."""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, NoReturn


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
    Kind.BAD_OBJECT: "correct the object in the labelling tool and export again",
    Kind.EMPTY_BOX: "draw the box again, or delete it",
    Kind.UNKNOWN_CLASS: "rename the class, or add it to the list of classes",
    Kind.MISSING_IMAGE: "put the image anywhere below the folder, under this name",
    Kind.BAD_IMAGE: "save the image again, or delete it with its annotation",
    Kind.OUTSIDE: "draw the box again: only what is inside of the image is used",
    Kind.NO_OBJECT: "label objects of the class, or take it out of the list of classes",
    Kind.NO_IMAGE: "add images of the class, or take its folder away",
    Kind.AMBIGUOUS_IMAGE: "rename or remove all but one of the images",
    Kind.WRONG_SIZE: "put the image that was labelled in place of the resized one, or label it again",
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
