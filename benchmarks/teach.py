"""Average precision and times of `spp teach`: labels of data sets are replayed image by image.

The labels of train are revealed in the order in which the page would ask for them; AP50 (by area) is measured on test,
over all of its classes. With --train, `spp train` learns from the same images, for comparison.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.subsets import with_classes
from detector.cli.outputs import cache_folder
from detector.datasets.check import check_classes
from detector.datasets.dataset import Dataset
from detector.datasets.loading import DataSource, load_splits
from detector.evaluation.held_out import measure_held_out
from detector.teaching.labels import Box, ImageLabels
from detector.teaching.project import ProjectImage
from detector.teaching.session import Event, Snapshot, TeachingSession
from detector.training.train_on import train_on

BACKGROUND_SECONDS = 8.0
"""Work on other images after each label; a person takes longer to label an image."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sets", type=Path, required=True, metavar="DIR", help="folder of data sets with the splits train and test"
    )
    parser.add_argument(
        "--images", type=int, nargs="+", default=[10, 20], metavar="N", help="labeled images (default: 10 20)"
    )
    parser.add_argument("--classes", type=int, metavar="K", help="only the K most frequent classes")
    parser.add_argument("--cache", type=cache_folder, metavar="DIR", help="cache directory (default: a temporary one)")
    parser.add_argument("--train", action="store_true", help="also measure spp train on the same images")


def measure(options: argparse.Namespace) -> int:
    print(machine(), flush=True)
    print("| set | images | boxes | AP50 on test | round: median | 95th percentile | peak memory | spp train |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    folders = sorted(path for path in options.sets.iterdir() if path.is_dir())
    for folder in folders:
        splits = load_splits(DataSource(folder), report=lambda issue: None)
        with tempfile.TemporaryDirectory() as temporary:
            cache = (options.cache or Path(temporary)) / folder.name
            replay = Replay(_frequent(splits["train"], options.classes), splits["test"], cache)
            for count in sorted(options.images):
                replay.label(count)
                print(_row(folder.name, replay, options.train), flush=True)
    return 0


def _row(name: str, replay: Replay, trains: bool) -> str:
    seconds = np.array(replay.seconds)
    trained = ""
    if trains:
        start = perf_counter()
        detector = train_on(replay.labeled(), "default")
        found = [detector.detect(each.path, min_score=-1.0) for each in replay.test]
        trained = f"{100 * measure_held_out(found, replay.test, 'area').mAP:.1f} in {perf_counter() - start:.0f} s"
    cells = (
        name,
        len(replay.labels),
        sum(len(each.boxes) for each in replay.labels.values()),
        f"{100 * replay.precision():.1f}",
        f"{np.median(seconds):.2f} s",
        f"{np.quantile(seconds, 0.95):.2f} s",
        f"{_peak_megabytes():.0f} MB",
        trained,
    )
    return f"| {' | '.join(map(str, cells))} |"


@dataclass
class Replay:
    """A session whose user labels as a data set says; ``seconds`` are the times of its rounds."""

    train: Dataset
    test: Dataset
    cache: Path
    labels: dict[int, ImageLabels] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    _next: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        images = [ProjectImage(each.image_id, each.path) for each in self.train]
        self.session = TeachingSession(images, self.cache, self._take)

    def _take(self, event: Event) -> None:
        if event.kind == "round":
            self.seconds.append(event.content["seconds"])
        elif event.kind == "next":
            self._next = event.content

    def label(self, count: int) -> None:
        """Label images until there are ``count``, with time for the work in the background after each of them."""
        while len(self.labels) < min(count, len(self.train)):
            open_images = [image for image in range(len(self.train)) if image not in self.labels]
            image = next((each for each in self._next if each not in self.labels), open_images[0])
            self.session.look(image)
            self.labels[image] = self._answer(image)
            used = dict.fromkeys(box.class_name for each in self.labels.values() for box in each.boxes)
            self.session.label(Snapshot(dict(self.labels), tuple(used)))
            n_rounds, self._next, start = len(self.seconds), [], perf_counter()
            while len(self.seconds) == n_rounds or not self._next or perf_counter() - start < BACKGROUND_SECONDS:
                if not self.session.step():
                    break

    def _answer(self, image: int) -> ImageLabels:
        each = self.train[image]
        names = [self.train.class_names[label] for label in each.labels]
        corners: list[Any] = each.boxes.tolist()
        return ImageLabels(tuple(Box(*pair) for pair in zip(names, map(tuple, corners), strict=True)), done=True)

    def labeled(self) -> Dataset:
        """Return the images labeled so far, with the classes that they have."""
        images = [self.train[image] for image in self.labels]
        return check_classes(self.train.subset(images, self.train.name), True, lambda issue: None)

    def precision(self) -> float:
        """Return AP50 on test of the present model."""
        detector = self.session.detector
        assert detector is not None
        found = [detector.detect_cached(self.session.learner.cache, each) for each in self.test]
        return measure_held_out(found, self.test, "area").mAP


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _frequent(dataset: Dataset, n_classes: int | None) -> Dataset:
    """Return the images with the objects of the most frequent classes."""
    if n_classes is None:
        return dataset
    counts = np.bincount(np.concatenate([each.labels for each in dataset]), minlength=len(dataset.class_names))
    return with_classes(dataset, [dataset.class_names[label] for label in np.argsort(-counts)[:n_classes]])
