"""Records to datasets: find the image of each, read its header, and place its boxes on it."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Dataset, Object, annotate, labels_by_name
from detector.datasets.image_finder import AmbiguousImageError, ImageFinder
from detector.datasets.issues import Issue, IssueKind, Report
from detector.datasets.records import UNSPLIT, Export, Record, split_of_folder
from detector.images.decoding import ImageHeader
from detector.images.files import image_header

Unlabeled = Literal["skip", "background"]

Inspect = Callable[[Sequence[Object], ImageHeader], None]
"""Receives the objects of an image, with boxes in its pixels, and its header."""

Log = Callable[[str], None]
"""Receives one line for each decision about the data."""

_MAX_OUTSIDE = 1.0  # pixels that rounding, or counting from the wrong end, may add to a box
_NEAR_SIZE = 0.03  # of a side, by which an annotated size may be off
_SAME_ASPECT = 0.01
_MAX_RESIZED = 2  # times the annotated side, from which on an image of another aspect is another image
_SWAPPED = (5, 6, 7, 8)  # values of EXIF's Orientation
_MIRRORED = (2, 3, 6, 7)
_FLIPPED = (3, 4, 7, 8)


class _Found(NamedTuple):
    record: Record
    path: Path


def resolve(
    export: Export,
    splits: Sequence[str],
    class_names: Sequence[str] | None,
    report: Report,
    log: Log,
    unlabeled: Unlabeled = "skip",
    inspect: Inspect | None = None,
    open_images: bool = True,
) -> dict[str, Dataset]:
    """Return the datasets of ``splits``, which the export has, with the classes of all of these.

    class_names: the classes that may occur. None: those that the export lists, else those that occur, sorted.
    log: receives the number of unlabeled images, if there are any.
    unlabeled: leave out images without annotation, or train on them as images without objects.
    inspect: called for each image.
    open_images: whether to read the header of each image. If not, images at a path that the format fixes may be
        missing, and boxes in pixels stay as annotated.
    Images that are missing, unreadable, ambiguous or of another size than annotated are reported and left out, and so
    are those with an object that could not be read. Where boxes fit an image of another size as they are or after
    scaling, it is reported, but kept. Boxes are clipped to their image. One that reaches out of it by more than a pixel
    is reported, but kept: an object left out would be learned as background. One outside of it is left out.
    """
    folders = {path.parent for path in export.images}
    located = {
        split: _locate(export, records, folders, split, report if split in splits else _ignore, open_images)
        for split, records in export.splits.items()
    }
    ids = _image_ids(export)
    _add_unlabeled(export, located)
    names = class_names if class_names is not None else export.class_names
    if names is None:
        objects = (each for split in splits for record, _ in located[split] for each in record.objects or ())
        names = sorted({each.class_name for each in objects})
    label_of = labels_by_name(names)
    title = export.root.resolve().name
    datasets = {}
    for split in splits:
        found = located[split]
        n_unlabeled = sum(record.objects is None for record, _ in found)
        if unlabeled == "skip":
            found = [each for each in found if each.record.objects is not None]
        annotations = []
        for record, path in found:
            if not record.complete:
                continue
            objects_on_image = _objects(record, path, report, inspect, open_images)
            if objects_on_image is not None:
                annotations.append(annotate(record.image_id or ids[path], path, objects_on_image, label_of, report))
        datasets[split] = Dataset(tuple(annotations), tuple(names), f"{title} {split}".strip())
        if n_unlabeled:
            use = "left out; see --unlabeled background" if unlabeled == "skip" else "used as images without objects"
            log(f"{datasets[split].name}: {n_unlabeled} images without annotation are {use}")
    return datasets


def split_by_images(export: Export) -> Export:
    """Return an export with the splits that the folders of its images are named after, if nothing else names any."""
    split_of = {folder: split_of_folder(folder, export.root) for folder in {path.parent for path in export.images}}
    if export.listed or [*export.splits] != [UNSPLIT] or not any(split_of.values()):
        return export
    records = export.splits[UNSPLIT]
    if any(split_of_folder(record.source.parent, export.root) for record in records):
        return export  # the reader knows why these are one split
    finder = ImageFinder(export.images)
    splits: dict[str, list[Record]] = {}
    lost = []
    for record in records:
        try:
            path = finder.find(record.names, record.near)
        except (FileNotFoundError, AmbiguousImageError):
            lost.append(record)
        else:
            splits.setdefault(split_of.get(path.parent, UNSPLIT), []).append(record)
    if not splits:
        return export
    next(iter(splits.values())).extend(lost)  # reported when they are resolved
    return replace(export, splits=splits)


def oriented(boxes: NDArray[np.float64], header: ImageHeader) -> NDArray[np.float64]:
    """Map boxes ``(N, 4)`` from stored pixels to the image of ``header``, which obeys its EXIF orientation.

    Orientations 5 to 8 swap rows and columns; then sides are mirrored.
    """
    if header.orientation in _SWAPPED:
        boxes = boxes[:, [1, 0, 3, 2]]
    x1, y1, x2, y2 = boxes.T
    if header.orientation in _MIRRORED:
        x1, x2 = header.width - x2, header.width - x1
    if header.orientation in _FLIPPED:
        y1, y2 = header.height - y2, header.height - y1
    return np.stack([x1, y1, x2, y2], axis=1)


def drawn_on_stored(size: tuple[int, int] | None, header: ImageHeader) -> bool | None:
    """Return whether boxes of an image annotated as ``size`` (width, height) were drawn on its stored pixels.

    False where the size is the oriented image's or unknown: labeling tools show images oriented. None where the size
    fits neither: it is another image. Orientations that keep the size leave no trace and count as obeyed.
    """
    if size is None or size == (header.width, header.height):
        return False
    if header.orientation in _SWAPPED and size == (header.height, header.width):
        return True
    return None


def _ignore(issue: Issue) -> None:
    """Drop an issue of a split that nobody asked for."""


def _locate(
    export: Export, records: Sequence[Record], folders: Collection[Path], split: str, report: Report, open_images: bool
) -> list[_Found]:
    """Return records with their images; report those without one, and those of an image that already has one.

    folders: those of all images; of images by one name, those in a folder of the split are preferred.
    """
    finder = ImageFinder(export.images)
    own = {each for each in folders if split and split_of_folder(each, export.root) == split}
    found: dict[Path, _Found] = {}
    for record in records:
        try:
            path = _find(record, finder, own, open_images)
        except FileNotFoundError as error:
            report(Issue(IssueKind.MISSING_IMAGE, f"{record.source}: {error} below {export.root}"))
        except AmbiguousImageError as error:
            report(Issue(IssueKind.AMBIGUOUS_IMAGE, f"{record.source}: {error}"))
        else:
            if path in found:
                other = found[path].record.source
                report(Issue(IssueKind.AMBIGUOUS_IMAGE, f"{record.source}: {path} is annotated by {other}, too"))
            else:
                found[path] = _Found(record, path)
                if other_image := _other_image(record, path, finder):
                    what = f"names {other_image.name}, which is there, but goes by its own name with {path.name}"
                    report(Issue(IssueKind.OTHER_IMAGE, f"{record.source}: {what}"))
    return list(found.values())


def _other_image(record: Record, path: Path, finder: ImageFinder) -> Path | None:
    """Return the other image that a record names, too, exactly; None if there is none."""
    return next((other for name in record.names[1:] for other in finder.exact(name) if other.name != path.name), None)


def _find(record: Record, finder: ImageFinder, folders: Collection[Path], open_images: bool) -> Path:
    if record.path is not None and record.path.is_file():
        return record.path
    try:
        return finder.find(record.names, record.near, folders)
    except FileNotFoundError:
        if open_images or record.path is None:
            raise
        return record.path


def _add_unlabeled(export: Export, located: dict[str, list[_Found]]) -> None:
    """Add images without a record, as unlabeled ones, to the split of their folder."""
    if export.listed:
        return
    used = {each.path for found in located.values() for each in found}
    split_of = {path.parent: split for split, found in located.items() for _, path in found}
    for path in export.images:
        split = split_of.get(path.parent, UNSPLIT)
        if path not in used and split in located:
            located[split].append(_Found(Record((path.name,), path, (), None), path))


def _image_ids(export: Export) -> dict[Path, str]:
    """Return an id for each image: its file name without the suffix, with folders where several would be equal."""
    whole = {path: path.relative_to(export.root).as_posix() for path in export.images}
    folders = {path: str(Path(name).with_suffix("").as_posix()) for path, name in whole.items()}
    stems, paths = Counter(path.stem for path in export.images), Counter(folders.values())
    return {
        path: path.stem if stems[path.stem] == 1 else folders[path] if paths[folders[path]] == 1 else whole[path]
        for path in export.images
    }


def _objects(
    record: Record, path: Path, report: Report, inspect: Inspect | None, open_images: bool
) -> Sequence[Object] | None:
    """Return the objects of an image with boxes in its pixels; report an image that cannot be used and return None."""
    if not open_images and not record.normalized:
        return [each for each in record.objects or () if _has_area(each, report)]
    try:
        header = image_header(path)
    except (OSError, ValueError) as error:
        report(Issue(IssueKind.BAD_IMAGE, str(error)))
        return None
    boxes = np.array([each.box for each in record.objects or ()], np.float64).reshape(-1, 4)
    stored = drawn_on_stored(record.size, header)
    if record.normalized:
        boxes = boxes * np.array([header.width, header.height, header.width, header.height])
    elif stored and not record.upright:
        boxes = oriented(boxes, header)
    elif stored is None and not record.upright:
        assert record.size is not None
        width, height = record.size
        fitted = _fitted(boxes, width, height, header)
        what = f"annotated as {width} x {height} pixels, but {path} has {header.width} x {header.height}"
        if fitted is None:
            report(Issue(IssueKind.WRONG_SIZE, f"{record.source}: {what}"))
            return None
        boxes, how = fitted
        report(Issue(IssueKind.OTHER_SIZE, f"{record.source}: {what}; {how}"))
    clipped = [_clip(each, box, header, report) for each, box in zip(record.objects or (), boxes.tolist(), strict=True)]
    objects = [each for each in clipped if each is not None]
    if inspect is not None:
        inspect(objects, header)
    return objects


def _fitted(
    boxes: NDArray[np.float64], width: int, height: int, header: ImageHeader
) -> tuple[NDArray[np.float64], str] | None:
    """Return boxes ``(N, 4)`` of an image annotated with a wrong size on the image, and how; None where it is unclear.

    Some tools write a size that is some pixels off, has its sides swapped, or is that of another image. Images are also
    resized after they were labeled.
    """
    x_scale, y_scale = header.width / width, header.height / height
    fits = _inside(boxes, header.width, header.height)
    near = max(abs(1 - x_scale), abs(1 - y_scale)) <= _NEAR_SIZE
    similar = all(1 / _MAX_RESIZED < scale < _MAX_RESIZED for scale in (x_scale, y_scale))
    as_drawn = boxes, "boxes fit it as they are"
    if near or (fits and not _inside(boxes, width, height)):
        return as_drawn
    if abs(x_scale / y_scale - 1) <= _SAME_ASPECT:
        return boxes * np.array([x_scale, y_scale, x_scale, y_scale]), "boxes are scaled to it"
    return as_drawn if fits and similar else None


def _inside(boxes: NDArray[np.float64], width: int, height: int) -> bool:
    limits = np.array([width, height, width, height]) + _MAX_OUTSIDE
    return bool((boxes >= -_MAX_OUTSIDE).all() and (boxes <= limits).all())


def _has_area(each: Object, report: Report) -> bool:
    """Return whether the box of an object has an area in float32, where a sliver may be empty; report one without."""
    x1, y1, x2, y2 = np.array(each.box, np.float32).tolist()
    if x1 < x2 and y1 < y2:
        return True
    corners = " ".join(f"{corner:g}" for corner in each.box)
    report(Issue(IssueKind.EMPTY_BOX, f"{each.source}: {each.class_name} at {corners} has no area"))
    return False


def _clip(each: Object, box: Sequence[float], header: ImageHeader, report: Report) -> Object | None:
    """Return the object with ``box``, clipped to the image; None where nothing is left."""
    limits = (header.width, header.height, header.width, header.height)
    inside = [min(max(corner, 0.0), float(limit)) for corner, limit in zip(box, limits, strict=True)]
    far = max(abs(one - two) for one, two in zip(inside, box, strict=True)) > _MAX_OUTSIDE
    # in float32, where a sliver may be empty
    x1, y1, x2, y2 = np.array(inside, np.float32).tolist()
    gone = x2 <= x1 or y2 <= y1
    if gone or far:
        corners = " ".join(f"{corner:g}" for corner in box)
        what = f"{each.class_name} at {corners} {'lies' if gone else 'reaches'} out"
        line = f"{each.source}: {what} of the image of {header.width} x {header.height} pixels"
        report(Issue(IssueKind.OUTSIDE, line))
    return None if gone else each._replace(box=(x1, y1, x2, y2))
