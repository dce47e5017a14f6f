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


class Fault(NamedTuple):
    """One fault: its kind, and one line that opens with the file, or the data set, at fault."""

    kind: Kind
    line: str


Report = Callable[[Fault], None]


def raise_fault(fault: Fault) -> NoReturn:
    """Raise FileNotFoundError for a missing file and ValueError for any other fault."""
    missing = fault.kind in (Kind.MISSING_ANNOTATION, Kind.MISSING_IMAGE)
    raise (FileNotFoundError if missing else ValueError)(fault.line)
