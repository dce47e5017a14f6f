"""A data set of any labeling tool by its path: what lies there is recognized, and said in a line."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from detector.datasets.assembling import Inspect, Tell, Unlabeled, assemble, renamed
from detector.datasets.dataset import Dataset, Report, raise_fault
from detector.datasets.layouts import read_export
from detector.datasets.records import UNSPLIT, Export, split_name
from detector.datasets.splitting import hold_out as held_out_of

_log = logging.getLogger(__name__)


def open_dataset(
    path: Path | str,
    split: str | None = None,
    *,
    format_name: str | None = None,
    hold_out: float | None = None,
    unlabeled: Unlabeled = "skip",
    class_names: Sequence[str] | None = None,
    default_split: str = "train",
    report: Report = raise_fault,
    tell: Tell = _log.info,
) -> Dataset:
    """One split of the data set at ``path``, as `open_splits` reads it.

    split: its name, or a text file with the ids of its images, a line each. None: all images of a data set without
        splits, or ``default_split``.
    Raises also ValueError for a split that is not there, naming those that are.
    """
    path = Path(path)
    export = _recognize(path, format_name, report, tell)
    if split is not None and split.endswith(".txt"):
        everything = assemble(export, [*export.splits], class_names, unlabeled, report, tell)
        return _of_list(everything, Path(split), path)
    divided = _divided(export.splits, hold_out)
    if split is None and divided is None and [*export.splits] == [UNSPLIT]:
        return assemble(export, [UNSPLIT], class_names, unlabeled, report, tell)[UNSPLIT]
    wanted = split_name(split or default_split)
    if divided is not None and wanted in ("train", "val"):
        (whole,) = assemble(export, [divided], class_names, unlabeled, report, tell).values()
        return _parts(whole, export, hold_out or 0)[wanted]
    if wanted not in export.splits:
        there = ", ".join(each for each in export.splits if each) or "none"
        advice = "; --hold-out 0.2 makes train and val" if wanted in ("train", "val") else ""
        raise ValueError(f"{path}: there is no split {wanted!r}, there are: {there}{advice}")
    return assemble(export, [wanted], class_names, unlabeled, report, tell)[wanted]


def open_splits(
    path: Path | str,
    *,
    format_name: str | None = None,
    hold_out: float | None = None,
    unlabeled: Unlabeled = "skip",
    class_names: Sequence[str] | None = None,
    report: Report = raise_fault,
    tell: Tell = _log.info,
    inspect: Inspect | None = None,
) -> dict[str, Dataset]:
    """All splits of the data set at ``path`` by their names, with the same classes; one named "" where it has none.

    path: a folder, a zip file as downloaded, or the JSON, YAML or CSV file of a data set.
    format_name: one of `records.FORMATS`; None: what is recognized.
    hold_out: the part of the images that becomes val where the data have no val.
    unlabeled: what becomes of images that nobody has labeled: left out, or learned as images without objects.
    class_names: the classes that may occur; None: all there are.
    report: what to do about a fault of an image or an object, which is left out where it returns.
    tell: what hears the line that says what was recognized, and lines about images that are left out.
    inspect: what looks at the objects of each image.
    Images' headers are read. Raises OSError and ValueError, with one line that opens with the path, where no data set
    is recognized, or several are.
    """
    path = Path(path)
    export = _recognize(path, format_name, report, tell)
    datasets = assemble(export, [*export.splits], class_names, unlabeled, report, tell, inspect)
    divided = _divided(export.splits, hold_out)
    if divided is None:
        return datasets
    return {**_parts(datasets.pop(divided), export, hold_out or 0), **datasets}


def _recognize(path: Path, format_name: str | None, report: Report, tell: Tell) -> Export:
    export = read_export(path, format_name, report)
    order = ("train", "val", "test")
    ordered = sorted(export.splits, key=lambda name: order.index(name) if name in order else len(order))
    export = replace(export, splits={name: export.splits[name] for name in ordered})
    sizes = ", ".join(f"{split or 'all'} {len(records)}" for split, records in export.splits.items())
    tell(f"{path}: {export.layout}; images: {sizes}")
    return export


def _divided(splits: Iterable[str], hold_out: float | None) -> str | None:
    """The split that train and val are made of, where a part is to be held out and there is no val."""
    names = [*splits]
    if hold_out is None or "val" in names:
        return None
    return next((name for name in (UNSPLIT, "train") if name in names), None)


def _parts(whole: Dataset, export: Export, fraction: float) -> dict[str, Dataset]:
    train, val = held_out_of(renamed(whole, export.root.resolve().name, whole.annotations), fraction)
    return {"train": train, "val": val}


def _of_list(datasets: dict[str, Dataset], path: Path, data: Path) -> Dataset:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such list of images")
    wanted = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    by_id = {each.image_id: each for dataset in datasets.values() for each in dataset}
    if missing := [image_id for image_id in wanted if image_id not in by_id]:
        raise ValueError(f"{path}: there is no image {missing[0]!r} in {data}")
    if not wanted:
        raise ValueError(f"{path}: lists no images")
    first = next(iter(datasets.values()))
    return renamed(first, f"{data.stem} {path.stem}", [by_id[image_id] for image_id in dict.fromkeys(wanted)])
