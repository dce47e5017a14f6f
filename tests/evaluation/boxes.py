"""Ground truth and detections of images, written out in a line."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.detections import Detections

NAMES = ("cat", "dog", "sheep")
Box = tuple[float, float, float, float]
A, B, FAR = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (80.0, 80.0, 90.0, 90.0)


@dataclass(frozen=True)
class Objects:
    image_id: str
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]


def objects(image_id: str, *rows: tuple[Box, int, bool]) -> Objects:
    return Objects(
        image_id,
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([label for _, label, _ in rows], np.int64),
        np.array([difficult for _, _, difficult in rows], np.bool_),
    )


def found(*rows: tuple[Box, int, float]) -> Detections:
    return Detections(
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([label for _, label, _ in rows], np.int64),
        np.array([score for _, _, score in rows], np.float32),
        NAMES,
    )
