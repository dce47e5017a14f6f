"""Load a dataset of any labeling tool from its path, a list of the VOC devkit, or a COCO file."""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from detector.datasets.dataset import Dataset
from detector.datasets.format_detection import read_export
from detector.datasets.hold_out import hold_out
from detector.datasets.issues import Report, raise_issue
from detector.datasets.joining import join, names_of
from detector.datasets.readers.coco import read_coco_file
from detector.datasets.readers.voc import VOC_CLASSES, read_voc_split
from detector.datasets.records import UNSPLIT, Export, split_name
from detector.datasets.resolving import Inspect, Log, Unlabeled, resolve, split_by_images

_ORDER = ("train", "val", "test")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSource:
    """Location of a dataset and the way to read it, as the data options of the command line say.

    path: a folder, a zip or tar file as downloaded, or an annotation file.
    more: paths of further datasets, which are joined to it, see `join`.
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
    more: tuple[Path, ...] = ()

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
    if source.more:
        datasets = load_splits(source, class_names, report, log)
        if source.split is not None and source.split.endswith(".txt"):
            return _listed(datasets, Path(source.split), source.path)
        return datasets[_chosen(datasets, source, default_split)]
    export = _read(source, report, log)
    if source.split is not None and source.split.endswith(".txt"):
        everything = resolve(export, [*export.splits], class_names, report, log, source.unlabeled)
        return _listed(everything, Path(source.split), source.path)
    divided = _divided(export.splits, source.hold_out)
    wanted = split_name(source.split or default_split)
    if divided is not None and wanted in ("train", "val"):
        (dataset,) = resolve(export, [divided], class_names, report, log, source.unlabeled).values()
        return _parts(dataset, export.root.resolve().name, source.hold_out or 0)[wanted]
    split = _chosen(export.splits, source, default_split)
    return resolve(export, [split], class_names, report, log, source.unlabeled)[split]


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
    paths = (source.path, *source.more)
    sources: dict[str, dict[str, Dataset]] = {}
    for name, path in zip(names_of(paths), paths, strict=True):
        export = _read(replace(source, path=path), report, log)
        sources[name] = resolve(export, [*export.splits], class_names, report, log, source.unlabeled, inspect)
    title = " + ".join(sources) if source.more else export.root.resolve().name
    datasets = join(sources, log) if source.more else sources.popitem()[1]
    divided = _divided(datasets, source.hold_out)
    if divided is None:
        return datasets
    return {**_parts(datasets.pop(divided), title, source.hold_out or 0), **datasets}


def training_split(names: Collection[str]) -> str | None:
    """Return the split to train on: train, else the images without a split; None where there are neither."""
    return next((name for name in ("train", UNSPLIT) if name in names), None)


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


def _read(source: DataSource, report: Report, log: Log) -> Export:
    export = split_by_images(read_export(source.path, source.format_name, report))
    ordered = sorted(export.splits, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    export = replace(export, splits={name: export.splits[name] for name in ordered})
    sizes = ", ".join(f"{split or 'all'} {len(records)}" for split, records in export.splits.items())
    log(f"{source.path}: {export.description}; images: {sizes}")
    for note in export.notes:
        log(note)
    if UNSPLIT in export.splits and "train" in export.splits:
        records = export.splits[UNSPLIT]
        log(f"{source.path}: {len(records)} images are in no split and not used, such as {records[0].source}")
    return export


def _divided(splits: Iterable[str], fraction: float | None) -> str | None:
    """Return the split to divide into train and val, if a part is to be held out and there is no val."""
    names = [*splits]
    if fraction is None or "val" in names:
        return None
    return training_split(names)


def _chosen(splits: Collection[str], source: DataSource, default_split: str) -> str:
    """Return the split that a source means. Raises ValueError where there is none of that name."""
    wanted = split_name(source.split or default_split)
    whole = source.split is None and [*splits] == [UNSPLIT]
    chosen = UNSPLIT if whole else training_split(splits) if wanted == "train" else wanted
    if chosen is None or chosen not in splits or (chosen == UNSPLIT and source.split is not None and len(splits) == 1):
        names = ", ".join(each for each in splits if each) or "none"
        advice = "; --hold-out 0.2 makes train and val" if wanted in ("train", "val") else ""
        raise ValueError(f"{source.path}: there is no split {wanted!r}, there are: {names}{advice}")
    return chosen


def _parts(whole: Dataset, title: str, fraction: float) -> dict[str, Dataset]:
    train, val = hold_out(replace(whole, name=title), fraction)
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
