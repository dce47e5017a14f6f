"""A fast training set: colored squares, a fake network, given boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.datasets.dataset import Annotation
from detector.features.cache import FeatureCache
from detector.features.encoder import RegionEncoder
from detector.images.files import write_image
from detector.training.training_set import TrainingSet
from tests.fakes import MeanOfCells

SETTINGS: dict[str, Any] = {
    "width": 6,
    "iterations": 10,
    "lr": 0.1,
    "lr_steps": (),
    "momentum": 0.9,
    "weight_decay": 0.25,
    "dropout": 0.3,
    "batch_size": 8,
    "seed": 3,
}
"""Keys of a short fine-tuning."""


class NamedCells(MeanOfCells):
    """The fake network with the attributes that caches and trainings read."""

    name, stage, precision, device, digest = "fake", None, "float32", "cpu", "00"


def propose_nothing(image: NDArray[np.uint8]) -> Boxes:
    return as_boxes([])


def small_cache(folder: Path, boxes: Mapping[str, Any], **encoder: Any) -> FeatureCache:
    """A cache in a folder whose images have the boxes given, by image id."""
    backbone: Any = NamedCells()
    made = RegionEncoder(backbone, **{"short_sides": (160,), "levels": (1,), **encoder})
    return FeatureCache(
        folder / "cache", made, propose_nothing, {}, {name: as_boxes(each) for name, each in boxes.items()}
    )


def image_of(folder: Path, image_id: str, squares: Sequence[tuple[Sequence[int], int]], side: int = 160) -> Path:
    """An image of ``side`` pixels, black but for squares, each a box and the channel that it is bright in."""
    image = np.zeros((side, side, 3), np.uint8)
    for (x1, y1, x2, y2), channel in squares:
        image[y1:y2, x1:x2, channel] = 200
    path = folder / f"{image_id}.png"
    write_image(path, image)
    return path


def annotation(
    image_id: str, path: Path, objects: Sequence[tuple[Sequence[float], int]], difficult: Sequence[bool] | None = None
) -> Annotation:
    """Objects as boxes and labels."""
    return Annotation(
        image_id,
        path,
        np.array([box for box, _ in objects], np.float32).reshape(-1, 4),
        np.array([label for _, label in objects], np.int64),
        np.array([False] * len(objects) if difficult is None else difficult, np.bool_),
    )


def small_set(
    folder: Path, objects: Mapping[str, Sequence[tuple[Sequence[int], int]]], boxes: Mapping[str, Any], **settings: Any
) -> TrainingSet:
    """A training set of images by id, of objects that are squares of their class's channel, and of proposals."""
    annotations = [
        annotation(image_id, image_of(folder, image_id, squares), squares) for image_id, squares in objects.items()
    ]
    encoder = {name: settings.pop(name) for name in ("levels", "short_sides", "margin") if name in settings}
    return TrainingSet(annotations, 3, small_cache(folder, boxes, **encoder), **settings)
