"""A training that takes no time, and models that detect what they should."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.cli.train import parser, train_into_folder
from detector.config.detector import Config
from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.heads.calibration import Calibration
from detector.results.files import ResultFolder
from detector.runtime.progress import Progress


@dataclass(frozen=True)
class FakeHeads:
    calibration: Calibration | None = None


@dataclass(frozen=True)
class FakeCache:
    """A cache that lacks nothing."""

    directory: Path = Path("cache")
    precomputed: None = None

    def is_complete(self, image_id: str) -> bool:
        return True


@dataclass(frozen=True)
class FakeModel:
    """A model that finds all objects in the first so many percent of the images as there were images to train on."""

    fake: Fake
    class_names: tuple[str, ...]
    images: int
    config: Config = field(default_factory=Config)
    heads: FakeHeads = field(default_factory=FakeHeads)
    record: Any = None

    def save(self, path: Path) -> None:
        path.write_text(json.dumps([self.class_names, self.images]))

    def cache(self, *_: object) -> FakeCache:
        return FakeCache()

    def detect_cached(self, cache: FakeCache, annotation: Annotation) -> Detections:
        row, count = self.fake.held_out.index(annotation.image_id), len(self.fake.held_out)
        rows = slice(None if 8 * row < self.images * count else 0)
        scores = np.ones(len(annotation.labels[rows]), np.float32)
        return Detections(annotation.boxes[rows], annotation.labels[rows], scores, self.class_names)


@dataclass
class Fake:
    """Stands in for training, detection and reports: notes the calls, and raises at the one of that number."""

    fails_at: int = -1
    error: BaseException = field(default_factory=KeyboardInterrupt)
    calls: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    n_images: int = 0

    def run(self, *words: str) -> str:
        """Run `spp train` with these options; return the line that it prints."""
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as output:
            patch.setattr("detector.build.build_cache", lambda *_: FakeCache())
            patch.setattr("detector.runs.training_run.train", self.train)
            patch.setattr("detector.runs.training_run.with_record", with_record)
            patch.setattr("detector.runs.training_run.fill_cache", self.fill)
            patch.setattr("detector.pipeline.Detector.load", self.load)
            patch.setattr("detector.report.write.make_report", self.report)
            train_into_folder(parser().parse_args([*words]))
        return output.getvalue().rstrip("\n")

    def note(self, call: str) -> None:
        if len(self.calls) == self.fails_at:
            raise self.error
        self.calls.append(call)

    def train(
        self, config: Config, dataset: Dataset, names: Sequence[str], cache: Any, progress: Progress, workers: Any
    ) -> FakeModel:
        whole = not any(call.startswith("train 8") for call in self.calls) and len(dataset) > 4
        assert config.calibration.enabled is whole
        self.note(f"train {len(dataset)}")
        self.n_images = len([*progress(dataset, "mining")])
        return FakeModel(self, tuple(names), self.n_images)

    def fill(self, cache: FakeCache, dataset: Dataset, progress: Progress, workers: Any) -> tuple[Annotation, ...]:
        self.held_out = [each.image_id for each in dataset]
        self.note(f"detect {self.n_images}")
        return tuple(dataset)

    def report(self, folder: ResultFolder, outcomes: Any, images: Dataset, circumstances: Any) -> None:
        assert folder.folder.parent.is_dir() and len(images) == len(self.held_out)

    def load(self, path: Path, *_: object) -> FakeModel:
        self.note("load")
        names, self.n_images = json.loads(path.read_text())
        return with_record(FakeModel(self, tuple(names), self.n_images), (), 0)


def with_record(model: FakeModel, dataset: object, start: float) -> FakeModel:
    record = {"trained_on": "fake", "images": model.images, "date": "2026-01-02", "seconds": 7}
    return FakeModel(model.fake, model.class_names, model.images, record=record)
