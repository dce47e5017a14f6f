"""Ground truth and detections of images, written out in a line."""

from pathlib import Path

import numpy as np

from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.evaluation.outcomes import Outcomes, gather_outcomes

NAMES = ("cat", "dog", "sheep")
CAT, DOG, SHEEP = range(3)
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


def random_images(seed: int) -> tuple[list[Annotation], list[Detections]]:
    generator = np.random.default_rng(seed)
    truths, detections = [], []
    for number in range(30):
        corners = generator.uniform(0, 300, (6, 2))
        boxes = np.concatenate([corners, corners + generator.uniform(80, 200, (6, 2))], axis=1).astype(np.float32)
        labels = generator.integers(0, 3, 6)
        truths.append(Annotation(f"{number:06d}", Path(), boxes, labels, generator.random(6) < 0.2))
        again = generator.integers(0, 6, 12)
        moved = boxes[again] + generator.normal(0, 10, (12, 4)).astype(np.float32)
        scores = generator.normal(size=12).astype(np.float32)
        detections.append(Detections(moved, labels[again], scores, NAMES))
    return truths, detections


def outcomes_of(truths: list[Annotation], detections: list[Detections]) -> Outcomes:
    return gather_outcomes(detections, truths, NAMES)
