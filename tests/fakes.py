"""What stands in for the real thing in tests: networks, detectors, recipes and data sets that are made in no time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detector.backbones.geometry import Geometry
from detector.boxes import Boxes, as_boxes
from detector.config.classifier import ClassifierConfig, parse_classifier_config
from detector.datasets.dataset import Dataset
from detector.datasets.image_classes import LabeledImages
from detector.features.encoder import RegionEncoder
from detector.heads.heads import Heads
from detector.heads.linear import BoxRegressors, LinearSVMs
from detector.images.files import write_image
from detector.pipeline import Detector
from detector.runtime.progress import Progress

CONFIG: dict[str, dict[str, Any]] = {
    "features": {"short_sides": [320], "levels": [3, 1]},
    "proposals": {"max_boxes": 300, "min_side": 16},
    "svm": {"loss": "squared_hinge", "C": 0.01, "center": True},
    "calibration": {"enabled": False},
}


TINY: dict[str, dict[str, Any]] = {
    "network": {"backbone": "zf5/0.05", "weights": "random", "frozen": False, "pyramid": [2, 1], "hidden": [8]},
    "images": {"short_side": 52, "crop": 48, "sizes": [48]},
    "training": {"epochs": 4, "batch_size": 8},
}


NAMES = ("red", "green")
PROPOSALS = as_boxes([[0, 0, 64, 64], [4, 0, 68, 64], [96, 0, 160, 64], [0, 96, 160, 160]])


class FakeNetwork:
    """What all fake networks have: callables from an image to a tensor of (C, h, w)."""

    runtime = "torch"

    def __call__(self, image: NDArray[np.uint8]) -> torch.Tensor:
        raise NotImplementedError("each fake network says what it computes")

    def feature_map(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.ascontiguousarray(self(image).permute(1, 2, 0).numpy())


class MeanOfCells(FakeNetwork):
    """A fake network: the mean of every 16 x 16 block of each color."""

    name, stage, precision, digest = "fake", None, "float32", "00"  # which a cache reads
    channels = 3
    geometry = Geometry(stride=16, offset=7.5, receptive_field=16)

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, image: NDArray[np.uint8]) -> torch.Tensor:
        self.sizes.append(image.shape[:2])
        if min(image.shape[:2]) < 16:
            raise ValueError("the image is too narrow")  # as real ones do
        pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)
        return torch.nn.functional.avg_pool2d(pixels, 16)


def colored() -> NDArray[np.uint8]:
    """160 x 160: a red square at the top left, a green one at the top right, black elsewhere."""
    image = np.zeros((160, 160, 3), np.uint8)
    image[:64, :64, 0] = 250
    image[:64, 96:, 1] = 200
    return image


def fake_detector(move: float | None = None, propose: Callable[[Any], Boxes] = lambda image: PROPOSALS) -> Detector:
    """Scores are the brightness of a color less 100; regressors shift a box by a part of its width."""
    backbone: Any = MeanOfCells()
    weights = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
    regressors = []
    if move is not None:
        shifts = np.zeros((2, 4), np.float32)
        shifts[0, 0] = move
        regressors = [BoxRegressors(np.zeros((2, 3, 4), np.float32), shifts)]
    return Detector(
        propose,
        RegionEncoder(backbone, short_sides=(160,), levels=(1,)),
        Heads(LinearSVMs(weights, np.full(2, -100, np.float32)), regressors),
        NAMES,
    )


def with_heads(detector: Detector, **changes: Any) -> Detector:
    """Return a copy of the detector with other parts of its heads."""
    return replace(detector, heads=replace(detector.heads, **changes))


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def stops_after(n_rounds: int) -> Progress:
    def progress(rounds, title):  # type: ignore[no-untyped-def]
        for number, each in enumerate(rounds):
            if number == n_rounds:
                raise KeyboardInterrupt
            yield each

    return progress


def tiny(**changes: dict[str, Any]) -> ClassifierConfig:
    return parse_classifier_config({name: section | changes.get(name, {}) for name, section in TINY.items()}, "test")


def write_stripes(folder: Path, count: int, exclusive: bool = True) -> LabeledImages:
    """Noise of several sizes with stripes across, down, or (where they do not exclude each other) both or neither."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    paths, rows = [], []
    for number in range(count):
        height, width = rng.integers(50, 90, 2)
        y, x = np.mgrid[:height, :width]
        classes = np.eye(2, dtype=int)[number % 2] if exclusive else np.array([number % 2, number // 2 % 2])
        stripes = classes[0] * (y // 4 % 2) + classes[1] * (x // 4 % 2)
        image = 60 + 60 * stripes[..., None] + rng.integers(0, 60, (height, width, 3))
        paths.append(folder / f"{number}.png")
        write_image(paths[-1], image.astype(np.uint8))
        rows.append(2 * classes - 1)
    return LabeledImages(tuple(paths), np.array(rows, np.int8), ("across", "down"), exclusive, "stripes")


def coco_of(dataset: Dataset, extra_category: str | None = None) -> dict[str, object]:
    """What a COCO file says of a data set; an extra category comes first."""
    objects = [
        {"image_id": number, "category_id": label + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": int(crowd)}
        for number, each in enumerate(dataset)
        for (x1, y1, x2, y2), label, crowd in zip(
            each.boxes.tolist(), each.labels.tolist(), each.difficult.tolist(), strict=True
        )
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(dataset.class_names, 1)]
    return {
        "images": [{"id": number, "file_name": each.path.name} for number, each in enumerate(dataset)],
        "annotations": [{**each, "id": number} for number, each in enumerate(objects)],
        "categories": [*([{"id": 0, "name": extra_category}] if extra_category else []), *categories],
    }
