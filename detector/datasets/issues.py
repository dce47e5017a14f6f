"""Issues of datasets: their kinds, the remedy for each, and how they are reported."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, NoReturn

MAX_LINES = 10
"""Maximum number of lines of each kind of issue."""
_log = logging.getLogger(__name__)


class IssueKind(StrEnum):
    """Kinds of issues, as summaries name them."""

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
    OTHER_SIZE = "annotated size that was corrected"
    OTHER_IMAGE = "annotation that names another image"
    TINY_BOX = "tiny box"
    WHOLE_IMAGE = "box of the whole image"
    DUPLICATE_BOX = "duplicate box"
    SIMILAR_CLASSES = "class names that look alike"
    SHARED_SCENE = "scene in several splits"


REMEDIES = {
    IssueKind.MISSING_ANNOTATION: "export again, or remove the image from the list",
    IssueKind.BAD_ANNOTATION: "export again: the file is truncated or of another format",
    IssueKind.BAD_OBJECT: "correct the object in the labeling tool and export again",
    IssueKind.EMPTY_BOX: "draw the box again, or delete it",
    IssueKind.UNKNOWN_CLASS: "rename the class, or add it to the list of classes",
    IssueKind.MISSING_IMAGE: "put the image anywhere below the folder, under this name",
    IssueKind.BAD_IMAGE: "save the image again, or delete it with its annotation",
    IssueKind.OUTSIDE: "draw the box again: only the part inside the image is used",
    IssueKind.NO_OBJECT: "label objects of the class, or remove it from the list of classes",
    IssueKind.NO_IMAGE: "add images of the class, or remove its folder",
    IssueKind.AMBIGUOUS_IMAGE: "rename or remove all but one of the images",
    IssueKind.WRONG_SIZE: "replace the image with the labeled one, or delete the annotated size if the boxes are right",
    IssueKind.OTHER_SIZE: "check the boxes with spp data show, then correct the size in the annotation",
    IssueKind.OTHER_IMAGE: "rename the annotation or the image, or correct the name in the annotation",
    IssueKind.TINY_BOX: "delete it if it was a stray click",
    IssueKind.WHOLE_IMAGE: "draw a box around the object, if this one labels the whole image",
    IssueKind.DUPLICATE_BOX: "delete one of the two",
    IssueKind.SIMILAR_CLASSES: "give the objects of both one name, if they are one class",
    IssueKind.SHARED_SCENE: "keep the images of a scene in one split, or scores on the others are too high",
}
"""Remedies by the owner of the data for each kind of issue."""


class Issue(NamedTuple):
    """One issue: its kind, and one line that starts with the file or dataset at fault."""

    kind: IssueKind
    line: str


Report = Callable[[Issue], None]
"""Receives each issue. Readers leave out the image or object concerned when it returns, as `list.append` does."""


def raise_issue(issue: Issue) -> NoReturn:
    """Raise FileNotFoundError for a missing file and ValueError for any other issue."""
    missing = issue.kind in (IssueKind.MISSING_ANNOTATION, IssueKind.MISSING_IMAGE)
    raise (FileNotFoundError if missing else ValueError)(issue.line)


def count_issues(issues: Sequence[Issue]) -> str:
    """Return the number of issues of each kind as one line, such as "2 x tiny box, 1 x missing image"."""
    counts = Counter(issue.kind for issue in issues)
    return ", ".join(f"{count} x {kind}" for kind, count in counts.items())


def log_issues(name: str, issues: Sequence[Issue], strict: bool) -> None:
    """Log the issues of the dataset ``name`` as warnings, the first ones of each kind.

    Raises ValueError where strict is set and there are any.
    """
    for kind in dict.fromkeys(issue.kind for issue in issues):
        lines = [issue.line for issue in issues if issue.kind == kind]
        for line in lines[:MAX_LINES]:
            _log.warning("%s", line)
        if len(lines) > MAX_LINES:
            _log.warning("%s: and %d more; see spp data check --all", kind, len(lines) - MAX_LINES)
    if issues and strict:
        raise ValueError(f"{name}: found {count_issues(issues)}; --strict allows no issues")
