"""A training that takes no time, and what it leaves."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detector.config.detector import Config, DetectionConfig
from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.runs.folder import cache_directory
from detector.runs.training_run import Steps
from detector.runtime.progress import Progress, Stage


@dataclass(frozen=True)
class FakeModel:
    class_names: tuple[str, ...]
    images: int
    config: Config = field(default_factory=Config)
    settings: DetectionConfig = field(default_factory=DetectionConfig)
    calibration: None = None

    @property
    def record(self) -> dict[str, Any]:
        return {"trained_on": "fake", "images": self.images, "date": "2026-01-02", "seconds": 7}

    def save(self, path: Path) -> None:
        path.write_text(json.dumps([self.class_names, self.images]))


@dataclass
class Fake:
    """Steps that note what they are called with, and raise at the one of that number.

    Detections are the ground truth of the first so many percent of the images as there were images to learn from.
    """

    fails_at: int = -1
    error: BaseException = field(default_factory=KeyboardInterrupt)
    calls: list[str] = field(default_factory=list)

    def __call__(self, options: Namespace, config: Config) -> Steps:
        cache_directory(options)
        return Steps(self.train, self.detect, self.load, self.plan, self.report)

    def note(self, call: str) -> None:
        if len(self.calls) == self.fails_at:
            raise self.error
        self.calls.append(call)

    def report(self, folder: Path, images: Dataset, found: Sequence[Detections]) -> None:
        assert folder.is_dir() and len(images) == len(found)

    def train(self, dataset: Dataset, whole: bool, progress: Progress) -> Any:
        assert whole is (not any(call.startswith("train 8") for call in self.calls) and len(dataset) > 4)
        self.note(f"train {len(dataset)}")
        return FakeModel(tuple(dataset.class_names), len([*progress(dataset, "mining")]))

    def detect(
        self, detector: Any, dataset: Dataset, progress: Progress
    ) -> tuple[Sequence[Annotation], Sequence[Detections]]:
        self.note(f"detect {detector.images}")
        found = []
        for number, each in enumerate(progress(dataset, "detect")):
            rows = slice(None if 8 * number < detector.images * len(dataset) else 0)
            scores = np.ones(len(each.labels[rows]), np.float32)
            found.append(Detections(each.boxes[rows], each.labels[rows], scores, dataset.class_names))
        return list(dataset), found

    def load(self, path: Path) -> Any:
        self.note("load")
        names, images = json.loads(path.read_text())
        return FakeModel(tuple(names), images)

    def plan(self, datasets: Sequence[Dataset], held_out: Dataset | None) -> list[Stage]:
        return [Stage("mining", len(each), 1.0) for each in datasets]
