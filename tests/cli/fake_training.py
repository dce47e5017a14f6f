"""A training that takes no time, and models that detect what they should."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from detector.boxes import Boxes, as_boxes
from detector.cli.train import main
from detector.config.detector import AdaptationConfig, Config
from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.evaluation.coverage import Coverage
from detector.evaluation.proposal_recall import ProposalRecall
from detector.heads.calibration import Calibration
from detector.results.files import ResultFolder
from detector.runtime.progress import Progress
from detector.tiles import Window
from detector.training.adaptation import Adapted
from detector.training.calibration import HeldOut
from detector.training.train import CROSS_VALIDATION


@dataclass(frozen=True)
class FakeHeads:
    calibration: Calibration | None = None


@dataclass(frozen=True)
class FakeCache:
    """A cache that lacks nothing, of a network without background."""

    directory: Path = Path("cache")
    precomputed: None = None

    @property
    def encoder(self) -> Any:
        return SimpleNamespace(backbone=SimpleNamespace(digest="00"))

    def proposals(self, *_: object) -> Boxes:
        return as_boxes([(0, 0, 50, 50)])

    def is_complete(self, image_id: str, window: None = None) -> bool:
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
    calibration: None = None
    too_weak: bool = False

    def windows(self, size: tuple[int, int]) -> list[Window]:
        return []

    def save(self, path: Path) -> None:
        path.write_text(json.dumps([self.class_names, self.images, self.record]))

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
    reports: list[tuple[str, bool]] = field(default_factory=list)
    n_images: int = 0

    def run(self, *words: str) -> str:
        """Run `spp train` with these options; return the line that it prints."""
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as output:
            patch.setattr("detector.build.build_cache", lambda *_: FakeCache())
            patch.setattr("detector.training.adaptation.adapt_recipe", adapt)
            patch.setattr("detector.runs.training_run.train_recorded", self.train)
            patch.setattr("detector.runs.training_run.fill_cache", self.fill)
            patch.setattr("detector.pipeline.Detector.load", self.load)
            patch.setattr("detector.report.write.make_report", self.report)
            patch.setattr("sys.argv", ["spp", *words])
            main()
        return output.getvalue().rstrip("\n")

    def note(self, call: str) -> None:
        if len(self.calls) == self.fails_at:
            raise self.error
        self.calls.append(call)

    def train(
        self,
        config: Config,
        dataset: Dataset,
        cache: Any,
        progress: Progress,
        workers: Any,
        report: Any,
        **_: Any,
    ) -> FakeModel:
        whole = not any(call.startswith("train 8") for call in self.calls) and len(dataset) > 4
        assert config.calibration.enabled is whole
        self.note(f"train {len(dataset)}")
        self.n_images = len([*progress(dataset, "mining")])
        model = with_record(FakeModel(self, dataset.class_names, self.n_images))
        if whole:
            # of each object of the cross-validation, its own box is found
            found = [
                Detections(each.boxes, each.labels, np.ones(len(each.labels), np.float32), dataset.class_names)
                for each in dataset
            ]
            held_out = HeldOut(dataset.annotations, found)
            self.held_out = [each.image_id for each in dataset]
            report(model, held_out)
            model.record[CROSS_VALIDATION] = held_out.measure(dataset.class_names).to_json()
        return model

    def fill(self, cache: FakeCache, dataset: Dataset, progress: Progress, workers: Any) -> tuple[Annotation, ...]:
        self.held_out = [each.image_id for each in dataset]
        self.note(f"detect {self.n_images}")
        return tuple(dataset)

    def report(
        self, folder: ResultFolder, outcomes: Any, images: Dataset, *, coverage: Coverage, explain: Any, **_: Any
    ) -> None:
        assert folder.folder.parent.is_dir() and len(images) == len(self.held_out)
        assert len(coverage.n_proposals) == len(images)
        self.reports.append((images.name, explain is not None))

    def load(self, path: Path, *_: object) -> FakeModel:
        self.note("load")
        names, self.n_images, record = json.loads(path.read_text())
        return FakeModel(self, tuple(names), self.n_images, record=record)


def adapt(config: Config, dataset: Dataset, *_: object) -> Adapted:
    """Choose nothing; all objects are covered."""
    fixed = config.for_images(len(dataset)).model_copy(update={"adaptation": AdaptationConfig()})
    return Adapted(fixed, ProposalRecall(np.ones((9, 2))), chosen=False, precomputed=False)


def with_record(model: FakeModel) -> FakeModel:
    record = {"trained_on": "fake", "images": model.images, "date": "2026-01-02", "seconds": 7}
    return FakeModel(model.fake, model.class_names, model.images, record=record)
