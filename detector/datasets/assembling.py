"""From an export's records to data sets: images are found, their sizes read, boxes brought onto them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Annotation, Dataset, Fault, Kind, Object, Report, annotate, labels_by_name
from detector.datasets.image_finder import AmbiguousImageError, ImageFinder
from detector.datasets.records import UNSPLIT, Export, Record
from detector.images.decoding import ImageHeader
from detector.images.files import image_header

_SIDEWAYS = (5, 6, 7, 8)
_MIRRORED = (2, 3, 6, 7)
_FLIPPED = (3, 4, 7, 8)


def turned(boxes: NDArray[np.float64], header: ImageHeader) -> NDArray[np.float64]:
    """Boxes ``(N, 4)`` of stored pixels, where they are in the image of ``header``, which obeys its orientation.

    As EXIF's Orientation says: 5 to 8 swap rows and columns, then sides are mirrored.
    """
    if header.orientation in _SIDEWAYS:
        boxes = boxes[:, [1, 0, 3, 2]]
    x1, y1, x2, y2 = boxes.T
    if header.orientation in _MIRRORED:
        x1, x2 = header.width - x2, header.width - x1
    if header.orientation in _FLIPPED:
        y1, y2 = header.height - y2, header.height - y1
    return np.stack([x1, y1, x2, y2], axis=1)


def drawn_on_stored(size: tuple[int, int] | None, header: ImageHeader) -> bool | None:
    """Whether boxes of an image annotated as ``size`` (width, height) were drawn on its stored pixels.

    False where the size is the turned image's, or not known: labeling tools show images turned. None where it is
    neither's: the image is another one. Turns that keep the size leave no trace and count as obeyed.
    """
    if size is None or size == (header.width, header.height):
        return False
    if header.orientation in _SIDEWAYS and size == (header.height, header.width):
        return True
    return None


Unlabeled = Literal["skip", "background"]

Inspect = Callable[[Sequence[Object], ImageHeader], None]
"""What looks at the objects of an image, as they are on it, and at its header."""

Tell = Callable[[str], None]
"""What hears, in a line each, what was decided about the data."""

MAX_OUTSIDE = 1.0  # pixels: what rounding, or counting from the wrong end, may add to a box


class _Found(NamedTuple):
    record: Record
    path: Path


def assemble(
    export: Export,
    splits: Sequence[str],
    class_names: Sequence[str] | None,
    unlabeled: Unlabeled,
    report: Report,
    tell: Tell,
    inspect: Inspect | None = None,
) -> dict[str, Dataset]:
    """The data sets of ``splits``, which the export has, with the classes of all of these.

    class_names: the classes that may occur. None: those that the export lists, else those that occur, sorted.
    unlabeled: what becomes of images that nobody has labeled: left out, or learned as images without objects; how
        many there are is told.
    Images that are missing, unreadable, not unique or of another size than annotated are reported and left out; boxes
    are cut to their image, and what that does to them is reported, as `check_images` does.
    """
    located = {
        split: _locate(export, records, report if split in splits else _ignore)
        for split, records in export.splits.items()
    }
    ids = _image_ids(export)
    _add_unlabeled(export, located)
    names = class_names if class_names is not None else export.class_names
    if names is None:
        names = sorted({each.class_name for split in splits for record, _ in located[split] for each in _of(record)})
    label_of = labels_by_name(names)
    title = export.root.resolve().name
    datasets = {}
    for split in splits:
        n_unlabeled = sum(record.objects is None for record, _ in located[split])
        if unlabeled == "skip":
            located[split] = [each for each in located[split] if each.record.objects is not None]
        annotations = [_annotation(each, ids[each.path], label_of, report, inspect) for each in located[split]]
        kept = tuple(each for each in annotations if each is not None)
        datasets[split] = Dataset(kept, tuple(names), f"{title} {split}".strip())
        if n_unlabeled:
            fate = "are left out; see --unlabeled background" if unlabeled == "skip" else "count as empty ones"
            tell(f"{datasets[split].name}: {n_unlabeled} images without annotation {fate}")
    return datasets


def _ignore(fault: Fault) -> None:
    """Of splits that nobody asked for."""


def _of(record: Record) -> Sequence[Object]:
    return record.objects or ()


def _locate(export: Export, records: Sequence[Record], report: Report) -> list[_Found]:
    """Records with their images; those without one, and those of an image that has one already, are reported."""
    finder = ImageFinder(export.images)
    found: dict[Path, _Found] = {}
    for record in records:
        try:
            path = finder.find(record.names, record.near)
        except FileNotFoundError as error:
            report(Fault(Kind.MISSING_IMAGE, f"{record.source}: {error} below {export.root}"))
        except AmbiguousImageError as error:
            report(Fault(Kind.AMBIGUOUS_IMAGE, f"{record.source}: {error}"))
        else:
            if path in found:
                other = found[path].record.source
                report(Fault(Kind.AMBIGUOUS_IMAGE, f"{record.source}: {path} is annotated by {other}, too"))
            else:
                found[path] = _Found(record, path)
    return list(found.values())


def _add_unlabeled(export: Export, located: dict[str, list[_Found]]) -> None:
    """Images that no record is about belong, unlabeled, to the split of the folder they lie in."""
    if export.listed:
        return
    used = {each.path for found in located.values() for each in found}
    split_of = {path.parent: split for split, found in located.items() for _, path in found}
    for path in export.images:
        split = split_of.get(path.parent, UNSPLIT)
        if path not in used and split in located:
            located[split].append(_Found(Record((path.name,), path, (), None), path))


def _image_ids(export: Export) -> dict[Path, str]:
    """A name for each image: its file's without the suffix, with folders where several are called so."""
    whole = {path: path.relative_to(export.root).as_posix() for path in export.images}
    folders = {path: str(Path(name).with_suffix("").as_posix()) for path, name in whole.items()}
    stems, paths = Counter(path.stem for path in export.images), Counter(folders.values())
    return {
        path: path.stem if stems[path.stem] == 1 else folders[path] if paths[folders[path]] == 1 else whole[path]
        for path in export.images
    }


def _annotation(
    found: _Found, image_id: str, label_of: dict[str, int], report: Report, inspect: Inspect | None
) -> Annotation | None:
    """The annotation of an image; None, and a report, where the image cannot be used."""
    record, path = found
    try:
        header = image_header(path)
    except (OSError, ValueError) as error:
        report(Fault(Kind.BAD_IMAGE, str(error)))
        return None
    stored = drawn_on_stored(record.size, header)
    if stored is None and not record.shown:
        assert record.size is not None
        width, height = record.size
        what = f"annotated as {width} x {height} pixels, but {path} has {header.width} x {header.height}"
        report(Fault(Kind.WRONG_SIZE, f"{record.source}: {what}"))
        return None
    objects = _on_image(record, header, bool(stored) and not record.shown)
    objects = [each for each in (_cut(each, header, report) for each in objects) if each is not None]
    if inspect is not None:
        inspect(objects, header)
    return annotate(image_id, path, objects, label_of, report)


def _on_image(record: Record, header: ImageHeader, stored: bool) -> list[Object]:
    """The objects with boxes in pixels of the image as it is read."""
    boxes = np.array([each.box for each in _of(record)], np.float64).reshape(-1, 4)
    if record.normalized:
        boxes = boxes * np.array([header.width, header.height, header.width, header.height])
    if stored:
        boxes = turned(boxes, header)
    return [_replace_box(each, box) for each, box in zip(_of(record), boxes.tolist(), strict=True)]


def _replace_box(each: Object, box: Sequence[float]) -> Object:
    """The object with another box."""
    x1, y1, x2, y2 = box
    return each._replace(box=(x1, y1, x2, y2))


def _cut(each: Object, header: ImageHeader, report: Report) -> Object | None:
    """The object with what of its box lies in the image; None where that is nothing."""
    limits = (header.width, header.height, header.width, header.height)
    inside = [min(max(corner, 0.0), float(limit)) for corner, limit in zip(each.box, limits, strict=True)]
    far = max(abs(one - two) for one, two in zip(inside, each.box, strict=True)) > MAX_OUTSIDE
    # in the precision of boxes, in which a sliver may be nothing
    x1, y1, x2, y2 = np.array(inside, np.float32).tolist()
    gone = x2 <= x1 or y2 <= y1
    if gone or far:
        corners = " ".join(f"{corner:g}" for corner in each.box)
        what = f"{each.class_name} at {corners} {'lies' if gone else 'reaches'} out"
        report(Fault(Kind.OUTSIDE, f"{each.source}: {what} of the image of {header.width} x {header.height} pixels"))
    return None if gone else _replace_box(each, (x1, y1, x2, y2))


def renamed(dataset: Dataset, name: str, annotations: Sequence[Annotation]) -> Dataset:
    """Some of the images of a data set under another name."""
    return replace(dataset, annotations=tuple(annotations), name=name)
