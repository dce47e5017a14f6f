"""Ground truth and detections of images, written out in a line."""

from pathlib import Path

import numpy as np

from detector.datasets.annotation import Annotation
from detector.detections import Detections

NAMES = ("cat", "dog", "sheep")
Box = tuple[float, float, float, float]
A, B, FAR = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (80.0, 80.0, 90.0, 90.0)


def objects(image_id: str, *rows: tuple[Box, int, bool]) -> Annotation:
    return Annotation(
        image_id,
        Path(f"{image_id}.jpg"),
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
