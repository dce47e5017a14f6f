"""Recall by a number of boxes, by hand."""

from __future__ import annotations

import numpy as np

from benchmarks.proposal_filter import best_overlaps, recalls
from detector.boxes import as_boxes


def test_recall_grows_with_the_boxes_that_are_kept() -> None:
    objects = as_boxes([[0, 0, 10, 10], [20, 0, 30, 10]])
    boxes = as_boxes([[0, 0, 10, 5], [20, 0, 30, 8], [0, 0, 10, 10]])
    found = best_overlaps(boxes, objects, [0, 1, 2, 3])
    np.testing.assert_allclose(found, [[0, 0.5, 0.5, 1], [0, 0, 0.8, 0.8]])
    nothing = best_overlaps(boxes, as_boxes(np.zeros((0, 4))), [0, 1, 2, 3])
    assert recalls([found, nothing], 0.5).tolist() == [0, 0.5, 1, 1]
    assert recalls([found, nothing], 0.7).tolist() == [0, 0, 0.5, 1]
