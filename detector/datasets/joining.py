"""Join several datasets to one: classes by name, splits by name, image ids made unique."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.datasets.dataset import Annotation, Dataset, labels_by_name
from detector.datasets.records import UNSPLIT
from detector.datasets.resolving import Log

Splits = Mapping[str, Dataset]


def join(sources: Mapping[str, Splits], log: Log) -> dict[str, Dataset]:
    """Return the splits of several datasets together.

    sources: the splits of each dataset by its name. Classes are in the order of the datasets. Images without a split
    are trained on where another dataset has splits. An image that several datasets hold, equal to the byte, is taken
    from the last one, whose labels are the latest. An id that several datasets use gets the name of its dataset before
    it, except in the first one. An image of several datasets stays in its split, so that labels that were corrected do
    not move held-out images to training. log: receives a line about such images.
    """
    datasets = [each for splits in sources.values() for each in splits.values()]
    class_names = [*dict.fromkeys(name for each in datasets for name in each.class_names)]
    label_of = labels_by_name(class_names)
    divided = any(split for splits in sources.values() for split in splits)
    replaced = _replaced(sources)
    split_of = {each.path: split for splits in sources.values() for split, own in splits.items() for each in own}
    for old, new in replaced.items():
        split_of[new] = split_of[old] or split_of[new]
    if replaced:
        log(f"{len(replaced)} images are in several of the data: their labels are those of the last")
    owners = Counter(each.image_id for dataset in datasets for each in dataset if each.path not in replaced)
    joined: dict[str, list[Annotation]] = defaultdict(list)
    for number, (name, splits) in enumerate(sources.items()):
        for dataset in splits.values():
            labels = np.array([label_of[each] for each in dataset.class_names], np.int64)
            for each in dataset:
                if each.path in replaced:
                    continue
                image_id = f"{name}/{each.image_id}" if number and owners[each.image_id] > 1 else each.image_id
                own = labels[each.labels] if len(each.labels) else each.labels
                split = split_of[each.path] or ("train" if divided else UNSPLIT)
                joined[split].append(replace(each, image_id=image_id, labels=own))
    title = " + ".join(sources)
    return {
        split: Dataset(tuple(annotations), tuple(class_names), f"{title} {split}".strip())
        for split, annotations in joined.items()
    }


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return a name for each dataset: that of its folder or file, with a number where several are equal."""
    stems = [path.resolve().stem or "data" for path in paths]
    counts: Counter[str] = Counter()
    names = []
    for stem in stems:
        counts[stem] += 1
        names.append(stem if counts[stem] == 1 else f"{stem}-{counts[stem]}")
    return names


def without_copies(paths: Sequence[Path], others: Iterable[Path]) -> list[Path]:
    """Return the ``paths`` whose files are not equal, to the byte, to one of ``others``; missing files stay."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in others:
        by_size[path.stat().st_size].append(path)
    known: dict[int, set[bytes]] = {}
    left = []
    for path in paths:
        size = path.stat().st_size if path.is_file() else -1
        if size in by_size:
            known.setdefault(size, {_digest(each) for each in by_size[size]})
        if size not in known or _digest(path) not in known[size]:
            left.append(path)
    return left


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _replaced(sources: Mapping[str, Splits]) -> dict[Path, Path]:
    """Return the image files that a later dataset holds, too, each with its equal one, in the order of datasets."""
    by_size: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for name, splits in sources.items():
        for path in {each.path: None for dataset in splits.values() for each in dataset}:
            by_size[path.stat().st_size].append((name, path))
    replaced: dict[Path, Path] = {}
    for found in by_size.values():
        if len({name for name, _ in found}) == 1:
            continue
        last: dict[bytes, tuple[str, Path]] = {}
        for name, path in found:
            key = _digest(path)
            if key in last and last[key][0] != name:
                replaced[last[key][1]] = path
            last[key] = (name, path)
    return replaced
