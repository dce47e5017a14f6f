"""Load data from a `DataSource`, report all of its issues, and go on without what they concern."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from detector.datasets.dataset import Dataset
from detector.datasets.issues import Issue, IssueKind, Report, count_issues, log_issues
from detector.datasets.loading import load_coco, load_dataset, load_splits, load_voc
from detector.datasets.resolving import Unlabeled

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSource:
    """Where a dataset is and how to read it, as the data options of the command line say.

    path, split, format_name, hold_out, unlabeled: as `load_dataset` takes them.
    shorthand: "voc": ``path`` and ``split`` are those of `load_voc`. "coco": ``path`` and ``images`` are those of
        `load_coco`.
    Raises ValueError for a VOC folder without a split.
    """

    path: Path
    split: str | None = None
    format_name: str | None = None
    hold_out: float | None = None
    unlabeled: Unlabeled = "skip"
    shorthand: Literal["voc", "coco"] | None = None
    images: Path | None = None

    def __post_init__(self) -> None:
        if self.shorthand == "voc" and self.split is None:
            raise ValueError("--voc needs --split, the name of a list in ImageSets/Main")

    def reading(self) -> dict[str, Any]:
        """Return the keyword arguments that `load_dataset` and `load_splits` share."""
        return {"format_name": self.format_name, "hold_out": self.hold_out, "unlabeled": self.unlabeled}


def load_checked(
    source: DataSource,
    *,
    class_names: Sequence[str] | None = None,
    strict: bool = False,
    open_images: bool = True,
    need_objects: bool = True,
    default_split: str = "train",
) -> Dataset:
    """Load a dataset without the images and objects that have issues.

    class_names: the classes that may occur. None: those of the data that have objects.
    strict: whether an issue is an error.
    open_images: as `load_voc` and `load_coco` take it; other data are always opened.
    need_objects: whether a class without objects is an issue; classes in class_names stay in any case.
    default_split: as `load_dataset` takes it.
    Issues are logged as warnings, the first ones of each kind. Raises OSError and ValueError where there is no such
    dataset, where strict is set and there is an issue, and where no object is left.
    """
    issues: list[Issue] = []
    notes: list[str] = []
    if source.shorthand == "coco":
        dataset = load_coco(source.path, source.images, class_names, issues.append, open_images)
    elif source.shorthand == "voc":
        assert source.split is not None
        dataset = load_voc(source.path, source.split, class_names, issues.append, open_images)
    else:
        dataset = load_dataset(
            source.path,
            source.split,
            **source.reading(),
            class_names=class_names,
            default_split=default_split,
            report=issues.append,
            log=notes.append,
        )
    if need_objects:
        dataset = check_classes(dataset, class_names is None, issues.append)
    _conclude(dataset, issues, strict, notes)
    return dataset


def load_checked_splits(
    source: DataSource, *, class_names: Sequence[str] | None = None, strict: bool = False
) -> list[Dataset]:
    """Load all splits of data of any tool; only the first, to train on, is checked as by `load_checked`.

    It is train, or all images where there are no splits. Raises ValueError where there are splits, but not train.
    """
    issues: list[Issue] = []
    notes: list[str] = []
    datasets = load_splits(
        source.path, **source.reading(), class_names=class_names, report=issues.append, log=notes.append
    )
    first = next((name for name in ("", "train") if name in datasets), None)
    if first is None:
        raise ValueError(f"{source.path}: there is no split 'train', there are: {', '.join(datasets)}")
    train = check_classes(datasets.pop(first), class_names is None, issues.append)
    _conclude(train, issues, strict, notes)
    return [train, *datasets.values()]


def check_classes(dataset: Dataset, drop: bool, report: Report) -> Dataset:
    """Report classes without objects; leave them out if ``drop`` is set."""
    present = np.unique(np.concatenate([np.zeros(0, np.int64), *(each.labels for each in dataset)]))
    for label, name in enumerate(dataset.class_names):
        if label not in present:
            report(Issue(IssueKind.NO_OBJECT, f"{dataset.name}: no object of class {name!r}"))
    if not drop or len(present) == len(dataset.class_names):
        return dataset
    annotations = tuple(replace(each, labels=np.searchsorted(present, each.labels)) for each in dataset)
    return Dataset(annotations, tuple(dataset.class_names[label] for label in present), dataset.name)


def _conclude(dataset: Dataset, issues: Sequence[Issue], strict: bool, notes: Sequence[str]) -> None:
    """Log what was found and what is left; raise ValueError where strict is set, or no object is left.

    notes: lines about data whose format was recognized. `spp data check` lists the issues of such data, so the error
        names only the first one.
    """
    n_objects = sum(len(each.labels) for each in dataset)
    if not n_objects or (notes and issues and strict):
        what = "--strict allows no issues" if n_objects else f"no object is left in {len(dataset)} images"
        raise ValueError("; ".join([f"{dataset.name}: {what}", *(issue.line for issue in issues[:1]), *notes[1:]]))
    for note in notes:
        _log.info("%s", note)
    log_issues(dataset.name, issues, strict)
    if issues:
        left = f"{len(dataset)} images, {n_objects} objects"
        _log.warning("%s: found %s; going on with %s", dataset.name, count_issues(issues), left)
