"""Detections, non-maximum suppression and selection."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.boxes import iou
from detector.detections import Detections
from detector.heads.suppression import nms, select, suppress

NAMES = ("cat", "dog")


def slow_nms(boxes: NDArray[np.float32], scores: NDArray[np.float32], limit: float) -> list[int]:
    left = sorted(range(len(boxes)), key=lambda row: (-scores[row], row))
    kept = []
    while left:
        best, *rest = left
        kept.append(best)
        left = []
        for row in rest:
            a, b = boxes[best].astype(float), boxes[row].astype(float)
            width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
            height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
            if union == 0 or width * height / union <= limit:
                left.append(row)
    return kept


@st.composite
def scored_boxes(draw: st.DrawFn, n_columns: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Whole-pixel boxes, some of them empty or equal, with few different scores so that ties are common."""
    small = st.integers(0, 6)
    rows = draw(st.lists(st.tuples(small, small, small, small), max_size=14))
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32).reshape(-1, 4)
    count = len(rows) * n_columns
    scores = draw(st.lists(st.integers(-2, 2), min_size=count, max_size=count))
    return boxes, np.array(scores, np.float32).reshape(len(rows), n_columns)


def test_detections_are_sorted_and_coerced() -> None:
    boxes = [[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3], [0, 0, 4, 4]]
    detections = Detections(np.array(boxes), np.array([0, 1, 1, 0], np.int32), np.array([0.5, 2, 0.5, -1]), NAMES)
    assert detections.scores.tolist() == [2, 0.5, 0.5, -1]
    assert detections.boxes[:, 2].tolist() == [2, 1, 3, 4]
    assert detections.labels.tolist() == [1, 0, 1, 0]
    arrays = (detections.boxes, detections.labels, detections.scores)
    assert [array.dtype.name for array in arrays] == ["float32", "int64", "float32"]
    assert len(detections) == 4
    assert detections.above(0.5).scores.tolist() == [2, 0.5, 0.5]
    assert len(detections.above(2.5)) == 0
    assert detections.top(1).boxes.tolist() == [[0, 0, 2, 2]]
    assert len(detections.top(0)) == 0
    assert len(detections.top(9)) == 4


def test_no_detections() -> None:
    empty = Detections.empty(["cat", "dog"])
    assert len(empty) == 0
    assert empty.boxes.shape == (0, 4)
    assert empty.class_names == NAMES
    assert empty.to_records() == []
    assert len(empty.above(0).top(5)) == 0


def test_records_are_short_and_exact() -> None:
    scores = np.array([0.83, -1.1], np.float32)
    boxes = np.array([[1.1, 2, 30.25, 1e-7 + 40], [0, 0, 5, 1 / 3]], np.float32)
    records = Detections(boxes, np.array([1, 0]), scores, NAMES).to_records()
    assert records[0] == {"label": "dog", "score": 0.83, "box": [1.1, 2.0, 30.25, 40.0]}
    read = json.loads(json.dumps(records))
    assert np.array([record["box"] for record in read], np.float32).tolist() == boxes.tolist()
    assert np.array([record["score"] for record in read], np.float32).tolist() == scores.tolist()


@pytest.mark.parametrize(
    ("boxes", "labels", "scores", "message"),
    [
        (np.zeros((1, 5)), [0], [0.0], r"boxes must have shape \(_, 4\), but got \(1, 5\)"),
        (np.zeros((2, 4)), [0], [0.0, 1.0], r"labels must have shape \(2,\), but got \(1,\)"),
        (np.zeros((1, 4)), [0], [[0.0]], r"scores must have shape \(1,\), but got \(1, 1\)"),
        (np.zeros((1, 4)), [2], [0.0], r"labels must be in 0\.\.1, but got 2"),
        (np.zeros((1, 4)), [-1], [0.0], r"labels must be in 0\.\.1, but got -1"),
        (np.zeros((1, 4)), [0.5], [0.0], "labels must be integers, but got float64"),
        (np.zeros((1, 4)), [0], [np.nan], "scores must be finite, but got nan"),
        (np.zeros((1, 4)), [0], [1e308], r"scores must fit into float32, but got 1e\+308"),
        (np.full((1, 4), np.inf), [0], [0.0], "boxes must be finite"),
        (np.array([[5, 0, 4, 1]]), [0], [0.0], "boxes must have x1 <= x2"),
    ],
)
def test_detections_reject_what_does_not_fit(
    boxes: NDArray[np.float32], labels: list[int], scores: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Detections(boxes, np.array(labels), np.array(scores), NAMES)


def test_top_rejects_a_negative_number() -> None:
    with pytest.raises(ValueError, match="n must not be negative, but got -1"):
        Detections.empty(NAMES).top(-1)


def test_nms_by_hand() -> None:
    # Row 1 overlaps row 0 by 80 / 120, row 2 overlaps row 1 by 80 / 120 but row 0 by 60 / 140 only.
    boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10], [50, 50, 60, 60]], np.float32)
    scores = np.array([3, 2, 1, 9], np.float32)
    assert nms(boxes, scores, 0.5).tolist() == [3, 0, 2]
    assert nms(boxes, scores, 0.4).tolist() == [3, 0]
    assert nms(boxes, scores, 0.7).tolist() == [3, 0, 1, 2]
    assert nms(boxes, scores, 0.5).dtype == np.int64


@pytest.mark.parametrize(("width", "limit"), [(10, 0.1), (29, 0.29), (30, 0.3), (50, 0.5), (100, 1.0)])
def test_box_at_exactly_the_limit_stays(width: int, limit: float) -> None:
    boxes = np.array([[0, 0, 100, 1], [0, 0, width, 1]], np.float32)
    scores = np.array([1, 0], np.float32)
    assert nms(boxes, scores, limit).tolist() == [0, 1]
    assert nms(boxes, scores, limit - 0.01).tolist() == [0]


def test_nms_ties_go_to_the_lower_index() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 3, np.float32)
    assert nms(boxes, np.zeros(3, np.float32), 0.3).tolist() == [0]
    assert nms(boxes, np.array([0, 1, 1], np.float32), 0.3).tolist() == [1]


def test_empty_boxes_suppress_nothing() -> None:
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10]], np.float32)
    assert nms(boxes, np.array([3, 2, 1], np.float32), 0.0).tolist() == [0, 1, 2]
    assert nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.3).shape == (0,)


@settings(deadline=None)
@given(scored_boxes(), st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.75, 1.0]))
def test_nms_equals_the_slow_one(drawn: tuple[NDArray[np.float32], NDArray[np.float32]], limit: float) -> None:
    boxes, scores = drawn[0], drawn[1][:, 0]
    kept = nms(boxes, scores, limit)
    assert kept.tolist() == slow_nms(boxes, scores, limit)
    overlaps = iou(boxes[kept], boxes[kept])
    assert (overlaps[np.triu_indices(len(kept), 1)] <= limit + 1e-6).all()


def test_nms_equals_the_slow_one_on_many_boxes() -> None:
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 300, (400, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(5, 120, (400, 2))], axis=1).astype(np.float32)
    scores = generator.normal(size=400).astype(np.float32)
    for limit in (0.3, 0.8):
        assert nms(boxes, scores, limit).tolist() == slow_nms(boxes, scores, limit)


@pytest.mark.parametrize(
    ("scores", "limit", "message"),
    [
        ([0.0, np.nan], 0.3, r"scores must not be NaN, but scores\[1\] is"),
        ([0.0], 0.3, r"scores must have shape \(2,\), but got \(1,\)"),
        ([0.0, 0.0], 1.5, "iou must be in 0..1, but got 1.5"),
        ([0.0, 0.0], float("nan"), "iou must be in 0..1, but got nan"),
    ],
)
def test_nms_rejects_bad_input(scores: list[float], limit: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nms(np.zeros((2, 4), np.float32), np.array(scores, np.float32), limit)


def slow_select(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], min_score: float, nms_iou: float, n: int
) -> list[tuple[float, int, list[float]]]:
    found = []
    for label in range(scores.shape[1]):
        rows = [row for row in range(len(scores)) if scores[row, label] >= min_score]
        of_class = boxes[rows] if boxes.ndim == 2 else boxes[rows, label]
        for kept in slow_nms(of_class, scores[rows, label], nms_iou):
            found.append((float(scores[rows[kept], label]), label, of_class[kept].tolist()))
    return sorted(found, key=lambda each: -each[0])[:n]


@settings(deadline=None)
@given(scored_boxes(n_columns=2), st.sampled_from([-9.0, 0.0, 1.0, 9.0]), st.integers(0, 8), st.booleans())
def test_select_equals_the_slow_one(
    drawn: tuple[NDArray[np.float32], NDArray[np.float32]], min_score: float, n: int, moved: bool
) -> None:
    boxes, scores = drawn
    if moved:
        boxes = np.stack([boxes, boxes + np.float32(1)], axis=1)
    detections = select(boxes, scores, NAMES, min_score, 0.3, n)
    rows = zip(detections.scores.tolist(), detections.labels.tolist(), detections.boxes.tolist(), strict=True)
    assert list(rows) == slow_select(boxes, scores, min_score, 0.3, n)


def test_classes_do_not_suppress_each_other() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], np.float32)
    scores = np.array([[0.9, 0.2], [0.8, 0.3]], np.float32)
    detections = select(boxes, scores, NAMES, 0.0, 0.3, 100)
    assert [record["label"] for record in detections.to_records()] == ["cat", "dog"]
    assert detections.boxes.tolist() == [[0, 0, 10, 10], [1, 0, 11, 10]]


def test_suppress_keeps_equal_scores_in_order() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [30, 0, 40, 10], [0, 0, 10, 10]], np.float32)
    detections = Detections(boxes, np.array([1, 1, 1, 0]), np.array([2, 1, 1, 1], np.float32), NAMES)
    left = suppress(detections, 0.3)
    assert left.labels.tolist() == [1, 1, 0]
    assert left.scores.tolist() == [2, 1, 1]
    assert left.boxes[:, 0].tolist() == [0, 30, 0]
    assert len(suppress(Detections.empty(NAMES), 0.3)) == 0


def test_select_without_boxes() -> None:
    assert len(select(np.zeros((0, 4), np.float32), np.zeros((0, 2), np.float32), NAMES, 0, 0.3, 100)) == 0
    assert len(select(np.zeros((0, 2, 4), np.float32), np.zeros((0, 2), np.float32), NAMES, 0, 0.3, 100)) == 0


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        (np.zeros((3, 4)), np.zeros((3, 1)), r"scores must have shape \(_, 2\), but got \(3, 1\)"),
        (
            np.zeros((3, 4)),
            np.zeros((2, 2)),
            r"boxes must have shape \(2, 4\) or \(2, 2, 4\), but got \(3, 4\)",
        ),
        (np.zeros((3, 1, 4)), np.zeros((3, 2)), r"\(3, 4\) or \(3, 2, 4\), but got \(3, 1, 4\)"),
        (np.zeros((1, 4)), np.full((1, 2), np.nan), "scores must not be NaN"),
    ],
)
def test_select_rejects_bad_input(boxes: NDArray[np.float32], scores: NDArray[np.float32], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(boxes, scores, NAMES, 0.0, 0.3, 100)
