"""Load a data set from its options, name all that is wrong with it, and go on without that."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.datasets.assembling import MAX_OUTSIDE, Unlabeled
from detector.datasets.dataset import Annotation, Dataset, Fault, Kind, Report
from detector.datasets.opening import open_dataset, open_splits
from detector.datasets.readers.coco import load_coco
from detector.datasets.readers.voc import load_voc

ImageSize = Callable[[Path], tuple[int, int]]

_MAX_LINES = 20  # of each kind
_log = logging.getLogger(__name__)


def load_checked(
    *,
    voc: Path | None = None,
    split: str | None = None,
    coco: Path | None = None,
    images: Path | None = None,
    data: Path | None = None,
    format_name: str | None = None,
    hold_out: float | None = None,
    unlabeled: Unlabeled = "skip",
    default_split: str = "train",
    class_names: Sequence[str] | None = None,
    strict: bool = False,
    image_size: ImageSize | None = None,
    need_objects: bool = True,
) -> Dataset:
    """Load a VOC list, a COCO file or any tool's ``data`` without the images and objects at fault.

    voc, split, coco, images: as `load_voc` and `load_coco` take them.
    data, split, format_name, hold_out, unlabeled, default_split: as `open_dataset` takes them.
    class_names: the classes that may occur. None: those of the data that have objects.
    strict: whether a fault is an error.
    image_size: height and width of an image, see `check_images`. None: images are not opened.
    need_objects: whether a class without objects is a fault; classes that class_names names stay all the same.
    Faults are logged as warnings, a line each, the first ones of each kind. Raises OSError and ValueError where there
    is no such data set, where strict is set and a fault is found, and where no object is left.
    """
    faults: list[Fault] = []
    notes: list[str] = []
    if data is not None:
        dataset = open_dataset(
            data,
            split,
            format_name=format_name,
            hold_out=hold_out,
            unlabeled=unlabeled,
            class_names=class_names,
            default_split=default_split,
            report=faults.append,
            tell=notes.append,
        )
    elif coco is not None:
        dataset = load_coco(coco, images, class_names, faults.append)
    elif voc is not None and split is not None:
        dataset = load_voc(voc, split, class_names, faults.append)
    else:
        raise ValueError("a data set must be data, a VOC folder and a split, or a COCO file")
    if image_size is not None and data is None:  # there, images have been opened
        dataset = check_images(dataset, image_size, faults.append)
    if need_objects:
        dataset = check_classes(dataset, class_names is None, faults.append)
    _conclude(dataset, faults, strict, notes)
    return dataset


def load_checked_splits(
    *,
    data: Path,
    format_name: str | None = None,
    hold_out: float | None = None,
    unlabeled: Unlabeled = "skip",
    class_names: Sequence[str] | None = None,
    strict: bool = False,
) -> list[Dataset]:
    """`load_checked` of all splits of ``data``, that to learn from first: train, or all where there is no split.

    Raises also ValueError where there are splits, but none of that name.
    """
    faults: list[Fault] = []
    notes: list[str] = []
    datasets = open_splits(
        data,
        format_name=format_name,
        hold_out=hold_out,
        unlabeled=unlabeled,
        class_names=class_names,
        report=faults.append,
        tell=notes.append,
    )
    first = next((name for name in ("", "train") if name in datasets), None)
    if first is None:
        raise ValueError(f"{data}: there is no split 'train', there are: {', '.join(datasets)}")
    train = check_classes(datasets.pop(first), class_names is None, faults.append)
    _conclude(train, faults, strict, notes)
    return [train, *datasets.values()]


def _conclude(dataset: Dataset, faults: Sequence[Fault], strict: bool, notes: Sequence[str]) -> None:
    """Log what was found and how it goes on; raise ValueError where it does not.

    notes: of data that were recognized, whose faults `spp data check` tells: with strict, too, the error only names the
        first one.
    """
    n_objects = sum(len(each.labels) for each in dataset)
    if not n_objects or (notes and faults and strict):
        what = "strict allows no fault" if n_objects else f"no object is left in {len(dataset)} images"
        raise ValueError("; ".join([f"{dataset.name}: {what}", *(fault.line for fault in faults[:1]), *notes[1:]]))
    for note in notes:
        _log.info("%s", note)
    summary = log_faults(dataset.name, faults, strict)
    if faults:
        _log.warning(
            "%s: found %s; going on with %d images, %d objects", dataset.name, summary, len(dataset), n_objects
        )


def log_faults(name: str, faults: Sequence[Fault], strict: bool) -> str:
    """Log the faults of a data set, a line each, the first ones of each kind; return how many there are of each.

    Raises ValueError where strict is set and there are any.
    """
    counts = Counter(fault.kind for fault in faults)
    for kind in counts:
        _log_lines(Counter(fault.line for fault in faults if fault.kind == kind), kind)
    summary = ", ".join(f"{count} x {kind}" for kind, count in counts.items())
    if faults and strict:
        raise ValueError(f"{name}: found {summary}, where strict allows no fault")
    return summary


def _log_lines(lines: Counter[str], kind: Kind) -> None:
    first = list(lines.items())[:_MAX_LINES]
    for line, count in first:
        _log.warning("%s%s", line, f" ({count} times)" if count > 1 else "")
    n_more = lines.total() - sum(count for _, count in first)
    if n_more:
        _log.warning("%s: and %d more", kind, n_more)


def check_images(dataset: Dataset, image_size: ImageSize, report: Report) -> Dataset:
    """Leave out images that cannot be read, and cut boxes to their image.

    image_size: height and width of an image in pixels; raises FileNotFoundError where it is missing, and OSError
        or ValueError where it cannot be read, each with one line that opens with the path.
    A box that reaches out of its image by more than a pixel is reported; what is inside is kept, because an object
    that is dropped would be learned as background. A box of which nothing is inside is left out.
    """
    kept = []
    for each in dataset:
        try:
            height, width = image_size(each.path)
        except FileNotFoundError as error:
            report(Fault(Kind.MISSING_IMAGE, str(error)))
        except (OSError, ValueError) as error:
            report(Fault(Kind.BAD_IMAGE, str(error)))
        else:
            kept.append(_cut_to_image(each, height, width, dataset.class_names, report))
    return replace(dataset, annotations=tuple(kept))


def _cut_to_image(
    annotation: Annotation, height: int, width: int, class_names: Sequence[str], report: Report
) -> Annotation:
    boxes = annotation.boxes
    inside = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    if (inside == boxes).all():
        return annotation
    gone = np.any(inside[:, 2:] <= inside[:, :2], axis=1)
    far = np.abs(boxes - inside).max(axis=1) > MAX_OUTSIDE
    for row in np.flatnonzero(gone | far):
        corners = " ".join(f"{corner:g}" for corner in boxes[row])
        what = f"{class_names[annotation.labels[row]]} at {corners} {'lies' if gone[row] else 'reaches'} out"
        report(Fault(Kind.OUTSIDE, f"{annotation.path}: {what} of the image of {width} x {height} pixels"))
    return replace(
        annotation, boxes=inside[~gone], labels=annotation.labels[~gone], difficult=annotation.difficult[~gone]
    )


def check_classes(dataset: Dataset, drop: bool, report: Report) -> Dataset:
    """Report classes without objects; drop: leave them out, too."""
    present = np.unique(np.concatenate([np.zeros(0, np.int64), *(each.labels for each in dataset)]))
    for label, name in enumerate(dataset.class_names):
        if label not in present:
            report(Fault(Kind.NO_OBJECT, f"{dataset.name}: no object of class {name!r}"))
    if not drop or len(present) == len(dataset.class_names):
        return dataset
    annotations = tuple(replace(each, labels=np.searchsorted(present, each.labels)) for each in dataset)
    return Dataset(annotations, tuple(dataset.class_names[label] for label in present), dataset.name)
