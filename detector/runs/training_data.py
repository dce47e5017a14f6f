"""The data of a training: a check that trains nothing, the images held out, and lists of both parts."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector.boxes import Boxes
from detector.config.detector import Config
from detector.datasets.check import load_checked, load_checked_splits
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.issues import Issue, IssueKind, log_issues
from detector.datasets.loading import DataSource, load_splits
from detector.images.files import image_size, read_image
from detector.results.files import ResultFolder
from detector.runtime.files import replacing

MAX_HELD_OUT = 500
"""Maximum number of held-out images that a training detects in."""

Progress = Callable[[Iterable[Annotation], str], Iterable[Annotation]]

_log = logging.getLogger(__name__)


def check_data(
    config: Config,
    source: DataSource,
    *,
    class_names: Sequence[str] | None = None,
    strict: bool = False,
    boxes: Mapping[str, Boxes] | None = None,
    cache: Path | None = None,
    device: str = "cpu",
    progress: Progress = lambda items, title: items,
) -> list[Dataset]:
    """Load and decode all data of a training, and check that the recipe can train on them; return the datasets.

    They are all splits of the data, that to train on first, or only the split that ``source`` names. boxes: proposals
    by image id. cache: its directory; nothing is written there. Raises the errors that would end the training.
    """
    if source.shorthand is None and source.split is None:
        datasets = load_checked_splits(source, class_names=class_names, strict=strict)
    else:
        datasets = [load_checked(source, class_names=class_names, strict=strict)]
    datasets = [_decodable(dataset, strict, progress) for dataset in datasets]
    _check_training(config, datasets[0], boxes, cache, device)
    return datasets


class HeldOutSplit(NamedTuple):
    """Held-out images, and the name of their split."""

    name: str
    dataset: Dataset


def load_held_out(source: DataSource, train: Dataset, strict: bool = False) -> HeldOutSplit | None:
    """Return the split val or, without it, test next to that of ``train``, with the classes of ``train``.

    At most `MAX_HELD_OUT` images are drawn from it. strict: as `load_checked` takes it. None where there is no such
    split, and where it shares an image with ``train``.
    """
    if source.shorthand == "coco":
        return None
    for split in ("val", "test"):
        if split == source.split:
            return None
        try:
            held_out = load_checked(
                replace(source, split=split), class_names=train.class_names, strict=strict, need_objects=False
            )
        except FileNotFoundError:
            continue
        except ValueError as error:
            _log.debug("%s is not held out: %s", split, error)
            continue
        if {each.image_id for each in held_out} & {each.image_id for each in train}:
            _log.warning("%s shares images with %s: it is not held out", held_out.name, train.name)
            continue
        return HeldOutSplit(split, sample(held_out))
    return None


def sample(dataset: Dataset, count: int = MAX_HELD_OUT) -> Dataset:
    """Return at most ``count`` images of a dataset, drawn at random, but always the same ones."""
    if len(dataset) <= count:
        return dataset
    rows = np.sort(np.random.default_rng(0).permutation(len(dataset))[:count]).tolist()
    return dataset.subset([dataset[row] for row in rows], f"{dataset.name} ({count} of {len(dataset)} images)")


def lists_folder(folder: Path, train: Dataset, overwrite: bool) -> ResultFolder:
    """Return the folder for `write_held_out`. Raises ValueError where the lists cannot be written there."""
    lists = ResultFolder(folder, [each.path for each in train], overwrite)
    lists.check(f"{name}.txt" for name in ("train", "val"))
    return lists


def write_held_out(
    lists: ResultFolder, source: DataSource, class_names: Sequence[str] | None, train: Dataset
) -> list[Path]:
    """Write the lists of the images in ``train`` and of those that ``source.hold_out`` kept; return the files."""
    datasets = load_splits(source, class_names, report=lambda issue: None)
    return write_lists(lists, {"train": train, **{name: datasets[name] for name in ("val",) if name in datasets}})


def write_lists(lists: ResultFolder, splits: Mapping[str, Dataset]) -> list[Path]:
    """Write the image ids of each split to <split>.txt, one per line, as --split takes them; return the files."""
    paths = []
    for name, dataset in splits.items():
        paths.append(lists.fixed(f"{name}.txt"))
        with replacing(paths[-1]) as temporary:
            temporary.write_text("".join(f"{each.image_id}\n" for each in dataset), encoding="utf-8")
    return paths


def describe(datasets: Sequence[Dataset]) -> str:
    """Return the numbers of images, of objects, and of classes with objects as one line."""
    n_images = sum(map(len, datasets))
    n_objects = sum(map(_n_objects, datasets))
    classes = {dataset.class_names[label] for dataset in datasets for each in dataset for label in each.labels}
    return f"{n_images} images, {n_objects} objects, {len(classes)} classes"


def _n_objects(annotations: Iterable[Annotation]) -> int:
    return sum(len(each.labels) for each in annotations)


def decodable(dataset: Dataset, progress: Progress) -> tuple[list[Annotation], list[Issue]]:
    """Return the images that can be decoded to their last pixel, and an issue for each of the others."""
    kept, issues = [], []
    for each in progress(dataset, f"images of {dataset.name}"):
        try:
            read_image(each.path)
        except (OSError, ValueError) as error:
            issues.append(Issue(IssueKind.BAD_IMAGE, str(error)))
        else:
            kept.append(each)
    return kept, issues


def _decodable(dataset: Dataset, strict: bool, progress: Progress) -> Dataset:
    """Return the images that can be decoded to their last pixel; log the others as issues.

    Raises ValueError where strict is set and there are others, and where no object is left.
    """
    kept, issues = decodable(dataset, progress)
    if issues and (strict or _n_objects(dataset) > _n_objects(kept) == 0):
        what = "--strict allows no issues" if strict else f"no object is left in {len(kept)} images"
        raise ValueError(f"{dataset.name}: {what}; {issues[0].line}")
    log_issues(dataset.name, issues, strict)
    return dataset.subset(kept, dataset.name)


def _check_training(
    config: Config, dataset: Dataset, boxes: Mapping[str, Boxes] | None, cache_directory: Path | None, device: str
) -> None:
    from detector.build import build_cache
    from detector.training.train import check_training
    from detector.training.training_set import TrainingSet

    # only the settings of the cache are read
    cache = build_cache(config, cache_directory or Path(tempfile.gettempdir()), device, boxes)
    images = TrainingSet(dataset.annotations, len(dataset.class_names), cache, config.svm.max_negative_iou)
    check_training(config, replace(images, difficult=config.svm.difficult), dataset.class_names)
    if boxes is not None and (missing := [each.image_id for each in dataset if each.image_id not in boxes]):
        raise ValueError(f"--proposals: there are no boxes of image {missing[0]!r}")
    height, width = image_size(dataset[0].path)
    cache.encoder.maps(np.zeros((height, width, 3), np.uint8))
