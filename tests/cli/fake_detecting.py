"""Detection without a model, for workers of the tests: nothing is loaded, torch neither."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from detector.cli import detect
from detector.cli.console import run
from detector.detections import Detections
from detector.images.files import read_image
from detector.runs.detect_images import DetectorFactory, ImageDetections

NAMES = ("red", "green")


class FakeDetectorFactory(DetectorFactory):
    """A `DetectorFactory` of red on the left and green on the right, by how bright they are there."""

    def __call__(self) -> Callable[[str], ImageDetections]:
        return self.detect

    def detect(self, name: str) -> ImageDetections:
        image = read_image(name)
        height, width = image.shape[:2]
        boxes = np.array([[0, 0, width // 2, height], [width // 2, 0, width, height]], np.float32)
        scores = np.array([image[:, : width // 2, 0].mean(), image[:, width // 2 :, 1].mean()], np.float32)
        found = Detections(boxes, np.arange(2), scores, NAMES)
        found = found[found.scores > 0]
        note = "" if len(found) else "all is black"
        return ImageDetections(found, (height, width), NAMES, note, {}, image if self.keep_image else None)


def run_detect(*arguments: str | Path) -> None:
    """Run the command, for processes of the tests."""
    detect.DetectorFactory = FakeDetectorFactory  # type: ignore[misc]
    sys.argv = ["spp detect", *map(str, arguments)]
    run(detect.main)
