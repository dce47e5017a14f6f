"""Images to label next: those that a detector is least certain of, without similar ones.

Uncertainty sampling (Lewis and Gale 1994), with a greedy choice for variety.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.boxes import clip
from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.features.encoder import FeatureMaps
from detector.pipeline import Detector

N_UNCERTAIN = 5
"""Number of boxes that an image's uncertainty is the mean of; with more of them, crowds would win."""


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """An image, its size ``(height, width)``, all detections, its uncertainty, and its features ``(C,)`` float32."""

    path: Path
    size: tuple[int, int]
    found: Detections
    uncertainty: float
    features: NDArray[np.float32]


def score_images(
    detector: Detector,
    paths: Iterable[Path],
    cache: Path,
    on_error: Callable[[Path, Exception], None],
) -> list[ScoredImage]:
    """Detect in images and return those that can be read; ``on_error`` receives the others.

    What is computed for an image is kept in the directory ``cache``, so a killed run resumes.
    """
    features = detector.cache(cache)
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    scored = []
    for path in paths:
        image_id = str(path.resolve())  # unique in the cache, which all folders share
        try:
            found = detector.detect_cached(features, Annotation(image_id, path, *nothing))
            maps = features.maps(image_id, path)
        except (ValueError, OSError) as error:
            on_error(path, error)
            continue
        scored.append(ScoredImage(path, maps.image_size, found, uncertainty(found), image_features(maps)))
    return scored


def uncertainty(found: Detections) -> float:
    """Return the uncertainty of an image, 0 to 1: the mean of its five least certain boxes, missing ones being 0.

    A box of probability p has ``4 p (1 - p)``; without calibration, one of score s has ``1 - |s|`` inside the margin.
    """
    if found.probabilities is not None:
        each = 4 * found.probabilities * (1 - found.probabilities)
    else:
        each = np.maximum(1 - np.abs(found.scores), 0)
    return float(np.sort(each)[::-1][:N_UNCERTAIN].sum() / N_UNCERTAIN)


def image_features(maps: FeatureMaps) -> NDArray[np.float32]:
    """Return the mean of each channel of an image's finest feature map, ``(C,)`` float32."""
    finest = max(maps.maps, key=lambda each: each.size)
    mean: NDArray[np.float32] = finest.astype(np.float32).mean(axis=(0, 1))
    return mean


def select(uncertainties: NDArray[np.float64], features: NDArray[np.float32], count: int) -> list[int]:
    """Return the rows of at most ``count`` images to label, most useful first.

    uncertainties: ``(N,)``, features: ``(N, C)``. Each step takes the image with the greatest product of its
    uncertainty and its distance to the nearest image taken before; ties keep the first. The distance is half of 1 minus
    the cosine of features less their mean over all images: 0 for equal and 1 for opposite ones. For the first image it
    is 1.
    """
    centered = features - features.mean(axis=0)
    lengths = np.linalg.norm(centered, axis=1, keepdims=True)
    directions = np.divide(centered, lengths, out=np.zeros_like(centered), where=lengths > 0)
    distances = np.ones(len(uncertainties))
    selected: list[int] = []
    while len(selected) < min(count, len(uncertainties)):
        worth = uncertainties * distances
        worth[selected] = -1
        row = int(np.argmax(worth))
        selected.append(row)
        distances = np.minimum(distances, np.clip((1 - directions @ directions[row]) / 2, 0, 1))
    return selected


def draft(image: ScoredImage, min_scores: NDArray[np.float32]) -> Annotation:
    """Return the detections that reach ``min_scores`` ``(K,)`` as an annotation, in whole pixels, as all tools read."""
    found = image.found.reaching(min_scores)
    boxes = clip(np.rint(found.boxes), *image.size)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Annotation(image.path.stem, image.path, boxes[kept], found.labels[kept], np.zeros(kept.sum(), np.bool_))
