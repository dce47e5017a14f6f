"""Load a dataset of any labeling tool from its path, a list of the VOC devkit, or a COCO file."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.format_detection import read_export
from detector.datasets.issues import Report, raise_issue
from detector.datasets.readers.coco import read_coco_file
from detector.datasets.readers.voc import VOC_CLASSES, read_voc_split
from detector.datasets.records import UNSPLIT, Export, split_name
from detector.datasets.resolving import Inspect, Log, Unlabeled, resolve

_ORDER = ("train", "val", "test")
_NO_OBJECT = -1  # stands for the class of images without objects
_log = logging.getLogger(__name__)


def load_dataset(
    path: Path | str,
    split: str | None = None,
    *,
    format_name: str | None = None,
    hold_out: float | None = None,
    unlabeled: Unlabeled = "skip",
    class_names: Sequence[str] | None = None,
    default_split: str = "train",
    report: Report = raise_issue,
    log: Log = _log.info,
) -> Dataset:
    """Load one split of the dataset at ``path``; other parameters and errors are those of `load_splits`.

    split: its name, or a text file with one image id per line. None: all images of a dataset without splits, or
        ``default_split``.
    Raises ValueError, naming the splits there are, for an unknown one.
    """
    path = Path(path)
    export = _read(path, format_name, report, log)
    if split is not None and split.endswith(".txt"):
        everything = resolve(export, [*export.splits], class_names, report, log, unlabeled)
        return _listed(everything, Path(split), path)
    divided = _divided(export.splits, hold_out)
    if split is None and divided is None and [*export.splits] == [UNSPLIT]:
        return resolve(export, [UNSPLIT], class_names, report, log, unlabeled)[UNSPLIT]
    wanted = split_name(split or default_split)
    if divided is not None and wanted in ("train", "val"):
        (whole,) = resolve(export, [divided], class_names, report, log, unlabeled).values()
        return _parts(whole, export, hold_out or 0)[wanted]
    if wanted not in export.splits:
        there = ", ".join(each for each in export.splits if each) or "none"
        advice = "; --hold-out 0.2 makes train and val" if wanted in ("train", "val") else ""
        raise ValueError(f"{path}: there is no split {wanted!r}, there are: {there}{advice}")
    return resolve(export, [wanted], class_names, report, log, unlabeled)[wanted]


def load_splits(
    path: Path | str,
    *,
    format_name: str | None = None,
    hold_out: float | None = None,
    unlabeled: Unlabeled = "skip",
    class_names: Sequence[str] | None = None,
    report: Report = raise_issue,
    log: Log = _log.info,
    inspect: Inspect | None = None,
) -> dict[str, Dataset]:
    """Load all splits of the dataset at ``path`` by name, with the same classes; data without splits are named "".

    path: a folder, a zip file as downloaded, or an annotation file.
    format_name: one of `format_detection.FORMATS`; None: recognized.
    hold_out: fraction of the images that becomes val where the data have no val.
    unlabeled: leave out images without annotation, or use them as images without objects.
    class_names: the classes that may occur; None: all there are.
    report: receives each issue; the image or object concerned is left out.
    log: receives a line that describes what was recognized, and lines about unlabeled images.
    inspect: called with the objects of each image, see `resolve`.
    Image headers are read. Raises OSError and ValueError, with one line that starts with the path, where there is not
    exactly one dataset.
    """
    path = Path(path)
    export = _read(path, format_name, report, log)
    datasets = resolve(export, [*export.splits], class_names, report, log, unlabeled, inspect)
    divided = _divided(export.splits, hold_out)
    if divided is None:
        return datasets
    return {**_parts(datasets.pop(divided), export, hold_out or 0), **datasets}


def load_voc(
    root: Path | str,
    split: str,
    class_names: Sequence[str] | None = VOC_CLASSES,
    report: Report = raise_issue,
    open_images: bool = False,
) -> Dataset:
    """Load the images that the devkit's ImageSets/Main/<split>.txt lists, in its order.

    root, errors: those of `read_voc_split`.
    class_names: the classes that may occur; None: those that do, sorted, which is VOC's own order, too.
    report: receives each issue; the image or object concerned is left out.
    open_images: as `resolve` takes it.
    """
    export = read_voc_split(Path(root), split, report)
    return resolve(export, [split], class_names, report, _log.info, open_images=open_images)[split]


def load_coco(
    path: Path | str,
    images: Path | str | None = None,
    class_names: Sequence[str] | None = None,
    report: Report = raise_issue,
    open_images: bool = False,
) -> Dataset:
    """Load the images of a COCO file, in its order.

    images: the folder that the images' `file_name`s are relative to (default: that of the file).
    class_names: the classes that may occur; None: all categories, ordered by id.
    report: receives each issue; the image or object concerned is left out.
    open_images: as `resolve` takes it.
    Raises the errors of `read_coco_file`.
    """
    path = Path(path)
    export = read_coco_file(path, path.parent if images is None else Path(images), report)
    (dataset,) = resolve(export, [*export.splits], class_names, report, _log.info, open_images=open_images).values()
    return replace(dataset, name=f"{path.resolve().parent.name} {path.stem}")


def hold_out(dataset: Dataset, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Return the images to train on and those held out, about ``fraction`` of all and of each class.

    Images are drawn by a hash of their ids, so the choice depends neither on their order nor much on images added
    later. A class in two images or more keeps one to train on. Raises ValueError for a fraction that is not between 0
    and 1, and where no image can be held out.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the part to hold out must be between 0 and 1, but is {fraction:g}")
    order = sorted(dataset, key=lambda each: hashlib.sha256(f"{seed} {each.image_id}".encode()).digest())
    drawn = _draw(order, max(1, round(fraction * len(order))), fraction)
    if not drawn:
        raise ValueError(f"{dataset.name}: none of the {len(dataset)} images can be held out; label some more")
    train = [each for each in dataset if each.image_id not in drawn]
    held_out = [each for each in dataset if each.image_id in drawn]
    return dataset.subset(train, f"{dataset.name} train"), dataset.subset(held_out, f"{dataset.name} val")


def _draw(order: list[Annotation], wanted: int, fraction: float) -> set[str]:
    """Return the ids of the images to hold out: first those whose rarest class still lacks some, then any, in order."""
    kinds = {each.image_id: set(each.labels.tolist()) or {_NO_OBJECT} for each in order}
    total = Counter(kind for own in kinds.values() for kind in own)
    held: Counter[int] = Counter()
    drawn: set[str] = set()
    for by_class in (True, False):
        for each in order:
            own = kinds[each.image_id]
            rarest = min(own, key=lambda kind: (total[kind], kind))
            lacking = held[rarest] + 1 <= round(fraction * total[rarest])
            leaves_one = all(total[kind] - held[kind] > 1 for kind in own)
            if len(drawn) < wanted and each.image_id not in drawn and leaves_one and (lacking or not by_class):
                drawn.add(each.image_id)
                held.update(own)
    return drawn


def _read(path: Path, format_name: str | None, report: Report, log: Log) -> Export:
    export = read_export(path, format_name, report)
    ordered = sorted(export.splits, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    export = replace(export, splits={name: export.splits[name] for name in ordered})
    sizes = ", ".join(f"{split or 'all'} {len(records)}" for split, records in export.splits.items())
    log(f"{path}: {export.description}; images: {sizes}")
    return export


def _divided(splits: Iterable[str], fraction: float | None) -> str | None:
    """Return the split to divide into train and val, if a part is to be held out and there is no val."""
    names = [*splits]
    if fraction is None or "val" in names:
        return None
    return next((name for name in (UNSPLIT, "train") if name in names), None)


def _parts(whole: Dataset, export: Export, fraction: float) -> dict[str, Dataset]:
    train, val = hold_out(replace(whole, name=export.root.resolve().name), fraction)
    return {"train": train, "val": val}


def _listed(datasets: dict[str, Dataset], path: Path, data: Path) -> Dataset:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such list of images")
    wanted = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    by_id = {each.image_id: each for dataset in datasets.values() for each in dataset}
    if missing := [image_id for image_id in wanted if image_id not in by_id]:
        raise ValueError(f"{path}: there is no image {missing[0]!r} in {data}")
    if not wanted:
        raise ValueError(f"{path}: lists no images")
    first = next(iter(datasets.values()))
    return first.subset([by_id[image_id] for image_id in dict.fromkeys(wanted)], f"{data.stem} {path.stem}")
