"""Load a dataset of any labeling tool from its path, a list of the VOC devkit, or a COCO file."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

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


@dataclass(frozen=True)
class DataSource:
    """Where a dataset is and how to read it, as the data options of the command line say.

    path: a folder, a zip file as downloaded, or an annotation file.
    split: name of a split, or a text file with one image id per line; None: see `load_dataset`.
    format_name: one of `format_detection.FORMATS`; None: recognized.
    hold_out: fraction of the images that becomes val where the data have no val.
    unlabeled: leave out images without annotation, or use them as images without objects.
    shorthand: "voc": ``path`` and ``split`` are those of `load_voc`. "coco": ``path`` and ``images`` are those of
        `load_coco`. The other fields do not apply then.
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


def load_dataset(
    source: DataSource | Path | str,
    class_names: Sequence[str] | None = None,
    report: Report = raise_issue,
    log: Log = _log.info,
    default_split: str = "train",
    open_images: bool = True,
) -> Dataset:
    """Load one split of a dataset.

    source: also the path alone. Without a split, data without splits are loaded whole, others' ``default_split``.
    class_names: the classes that may occur; None: all there are.
    report: receives each issue; the image or object concerned is left out.
    log: receives a line that describes what was recognized, and lines about unlabeled images.
    open_images: whether to read image headers; shorthands can do without, see `resolve`.
    Raises OSError and ValueError, with one line that starts with the path, where there is not exactly one dataset, and
    for an unknown split.
    """
    source = source if isinstance(source, DataSource) else DataSource(Path(source))
    if source.shorthand == "voc":
        return load_voc(source.path, source.split or "", class_names, report, open_images)
    if source.shorthand == "coco":
        return load_coco(source.path, source.images, class_names, report, open_images)
    export = _read(source, report, log)
    if source.split is not None and source.split.endswith(".txt"):
        everything = resolve(export, [*export.splits], class_names, report, log, source.unlabeled)
        return _listed(everything, Path(source.split), source.path)
    divided = _divided(export.splits, source.hold_out)
    whole = source.split is None and divided is None and [*export.splits] == [UNSPLIT]
    wanted = UNSPLIT if whole else split_name(source.split or default_split)
    if divided is not None and wanted in ("train", "val"):
        (dataset,) = resolve(export, [divided], class_names, report, log, source.unlabeled).values()
        return _parts(dataset, export, source.hold_out or 0)[wanted]
    if wanted not in export.splits:
        there = ", ".join(each for each in export.splits if each) or "none"
        advice = "; --hold-out 0.2 makes train and val" if wanted in ("train", "val") else ""
        raise ValueError(f"{source.path}: there is no split {wanted!r}, there are: {there}{advice}")
    return resolve(export, [wanted], class_names, report, log, source.unlabeled)[wanted]


def load_splits(
    source: DataSource | Path | str,
    class_names: Sequence[str] | None = None,
    report: Report = raise_issue,
    log: Log = _log.info,
    inspect: Inspect | None = None,
) -> dict[str, Dataset]:
    """Load all splits of a dataset by name, with the same classes; data without splits are named "".

    source: no shorthand; its split does not matter. inspect: called with the objects of each image, see `resolve`.
    Other parameters and errors are those of `load_dataset`.
    """
    source = source if isinstance(source, DataSource) else DataSource(Path(source))
    export = _read(source, report, log)
    datasets = resolve(export, [*export.splits], class_names, report, log, source.unlabeled, inspect)
    divided = _divided(export.splits, source.hold_out)
    if divided is None:
        return datasets
    return {**_parts(datasets.pop(divided), export, source.hold_out or 0), **datasets}


def load_voc(
    root: Path | str,
    split: str,
    class_names: Sequence[str] | None = VOC_CLASSES,
    report: Report = raise_issue,
    open_images: bool = False,
) -> Dataset:
    """Load the images that the devkit's ImageSets/Main/<split>.txt lists, in its order.

    root, errors: those of `read_voc_split`. class_names: None: those that occur, sorted, which is VOC's own order, too.
    Other parameters are those of `load_dataset`.
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

    images: the folder that the images' `file_name`s are relative to (default: that of the file). class_names: None: all
    categories, ordered by id. Other parameters are those of `load_dataset`, errors those of `read_coco_file`.
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


def _read(source: DataSource, report: Report, log: Log) -> Export:
    export = read_export(source.path, source.format_name, report)
    ordered = sorted(export.splits, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    export = replace(export, splits={name: export.splits[name] for name in ordered})
    sizes = ", ".join(f"{split or 'all'} {len(records)}" for split, records in export.splits.items())
    log(f"{source.path}: {export.description}; images: {sizes}")
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
