"""What workers of the tests detect with: nothing has to be loaded, torch neither, in processes of their own neither."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from detector.cli import detect
from detector.cli import detect as detect_parts
from detector.cli.console import run
from detector.detections import Detections
from detector.images.files import read_image
from detector.runs.detect_images import Detecting, Found

NAMES = ("red", "green")


class FakeDetecting(Detecting):
    """`Detecting` of red on the left and green on the right, by how bright they are there."""

    def __call__(self) -> Callable[[str], Found]:  # type: ignore[override]
        return self.detect

    def detect(self, name: str) -> Found:
        image = read_image(name)
        height, width = image.shape[:2]
        boxes = np.array([[0, 0, width // 2, height], [width // 2, 0, width, height]], np.float32)
        scores = np.array([image[:, : width // 2, 0].mean(), image[:, width // 2 :, 1].mean()], np.float32)
        found = Detections(boxes, np.arange(2), scores, NAMES)
        found = found[found.scores > 0]
        note = "" if len(found) else "all is black"
        return Found(found, (height, width), NAMES, note, {}, image if self.keep_image else None)


def run_detect(*arguments: str | Path) -> None:
    """The command, for processes of the tests."""
    for module in (detect, detect_parts):
        module.Detecting = FakeDetecting  # type: ignore[attr-defined]
    sys.argv = ["spp detect", *map(str, arguments)]
    run(detect.main)
