"""Average precision in two steps: detections are matched image by image, wherever that is done, and summed by class.

    result = sum_matches(map(match_image, ...), dataset, dataset.class_names, metric)

The result is that of `voc.evaluate_voc`: which object a detection belongs to is a matter of its image alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.evaluation.matching import assign, gather_objects
from detector.evaluation.voc import Metric, VocResult, voc_result


class Matches(NamedTuple):
    """The detections of an image that count, a row each, in order: ``(N,)`` int64, float32, bool."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    true: NDArray[np.bool_]


def match_image(found: Detections, annotation: Annotation, class_names: Sequence[str], min_iou: float = 0.5) -> Matches:
    """What is true of what was found in an image; ``labels`` index class_names, other classes are left out."""
    index = {name: label for label, name in enumerate(class_names)}
    labels = np.array([index.get(name, -1) for name in found.class_names], np.int64)[found.labels]
    objects = gather_objects([annotation], len(class_names))
    true, counted = np.zeros(len(found), np.bool_), labels >= 0
    for label in np.unique(labels[counted]):
        rows = np.flatnonzero(labels == label)
        boxes = found.boxes[rows].astype(np.float64)
        matched = assign(np.zeros(len(rows), np.int64), boxes, objects.of_class(label), min_iou)
        true[rows], counted[rows] = matched.true, matched.counted
    return Matches(labels[counted], found.scores[counted], true[counted])


def sum_matches(
    matches: Iterable[Matches], ground_truth: Sequence[Annotation], class_names: Sequence[str], metric: Metric
) -> VocResult:
    """The result of all images, one of the ``matches`` for each annotation, in their order."""
    empty = Matches(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.bool_))
    labels, scores, true = (np.concatenate(column) for column in zip(empty, *matches, strict=True))
    hits = []
    for label in range(len(class_names)):
        rows = np.flatnonzero(labels == label)
        hits.append(true[rows[np.argsort(-scores[rows], kind="stable")]])
    objects = gather_objects(ground_truth, len(class_names))
    counts = np.bincount(objects.labels[~objects.difficult], minlength=len(class_names))
    return voc_result(hits, counts.tolist(), class_names, metric, len(ground_truth))
