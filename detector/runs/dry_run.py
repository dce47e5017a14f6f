"""The data of a training: a dry run that reads and checks all of it, and lists of what was held out."""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.cli.console import progress
from detector.cli.options import data_source, layout_options, load_data, precomputed_boxes
from detector.cli.outputs import check_writable
from detector.config.detector import Config, load_config
from detector.datasets.check import load_checked_splits, log_faults
from detector.datasets.dataset import Annotation, Dataset, Fault, Kind
from detector.datasets.opening import open_splits
from detector.datasets.splitting import write_lists
from detector.images.files import image_size, read_image
from detector.results.files import ResultFolder


def dry_run(options: Namespace) -> int:
    """Check recipe, network and data of a training; print the splits and, last, the sum of what was read.

    All splits of --data are read, unless --split names one; the last line is ``N images, M objects, K classes``.
    Raises the errors that would end the training.
    """
    config = load_config(options.config, options.weights, options.tuned, options.runtime)
    data_source(options)  # options that do not fit are told before anything is read
    if options.data is not None and options.split is None:
        layout = layout_options(options)
        datasets = load_checked_splits(data=options.data, **layout, class_names=options.classes, strict=options.strict)
    else:
        datasets = [load_data(options)]
    datasets = [_decodable(dataset, options.strict) for dataset in datasets]
    _check_training(options, config, datasets[0])
    for dataset in datasets:
        print(f"{dataset.name}: {describe([dataset])}")
    print(describe(datasets))
    return 0


def lists_folder(options: Namespace, folder: Path, train: Dataset) -> ResultFolder:
    """The folder of the lists of `write_held_out`; ValueError where they cannot be written there."""
    lists = ResultFolder(folder, [each.path for each in train], options.overwrite)
    if options.hold_out is not None:
        check_writable(folder, folder.absolute())
        lists.check(f"{name}.txt" for name in ("train", "val"))
    return lists


def write_held_out(options: Namespace, train: Dataset, lists: ResultFolder) -> list[Path]:
    """Into ``lists``, those of the images that --hold-out kept and of the others; --split takes them.

    Nothing where no part was held out.
    """
    if options.hold_out is None:
        return []
    layout = layout_options(options)
    datasets = open_splits(options.data, **layout, class_names=options.classes, report=lambda fault: None)
    splits = {"train": train, **{name: datasets[name] for name in ("val",) if name in datasets}}
    for name in splits:
        lists.fixed(f"{name}.txt")
    return write_lists(lists.folder, splits)


def describe(datasets: list[Dataset]) -> str:
    """How many images, objects, and classes with objects there are."""
    n_images = sum(map(len, datasets))
    n_objects = sum(map(_n_objects, datasets))
    classes = {dataset.class_names[label] for dataset in datasets for each in dataset for label in each.labels}
    return f"{n_images} images, {n_objects} objects, {len(classes)} classes"


def _n_objects(annotations: Iterable[Annotation]) -> int:
    return sum(len(each.labels) for each in annotations)


def _decodable(dataset: Dataset, strict: bool) -> Dataset:
    """The images that can be read to their last pixel; the others are told.

    Raises ValueError where strict is set and there are others, and where no object is left.
    """
    kept, faults = [], []
    for each in progress(dataset, f"images of {dataset.name}") if sys.stderr.isatty() else dataset:
        try:
            read_image(each.path)
        except (OSError, ValueError) as error:
            faults.append(Fault(Kind.BAD_IMAGE, str(error)))
        else:
            kept.append(each)
    if faults and (strict or _n_objects(dataset) > _n_objects(kept) == 0):
        what = "strict allows no fault" if strict else f"no object is left in {len(kept)} images"
        raise ValueError(f"{dataset.name}: {what}; {faults[0].line}")
    log_faults(dataset.name, faults, strict)
    return replace(dataset, annotations=tuple(kept))


def _check_training(options: Namespace, config: Config, dataset: Dataset) -> None:
    from detector.build import build_cache
    from detector.training.train import check_training
    from detector.training.training_set import TrainingSet

    boxes = precomputed_boxes(options.proposals)
    # nothing is written to a cache that is only asked for its settings
    cache = build_cache(config, options.cache or Path(tempfile.gettempdir()), options.device, boxes)
    images = TrainingSet(dataset.annotations, len(dataset.class_names), cache, config.svm.max_negative_iou)
    check_training(config, replace(images, difficult=config.svm.difficult), dataset.class_names)
    if boxes is not None and (missing := [each.image_id for each in dataset if each.image_id not in boxes]):
        raise ValueError(f"{options.proposals}: holds no boxes of image {missing[0]!r}")
    height, width = image_size(dataset[0].path)
    cache.encoder.maps(np.zeros((height, width, 3), np.uint8))
