"""Arrays of boxes: checks, overlap, clipping and deltas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from detector.boxes import area, as_boxes, clip, decode_deltas, encode_deltas, flip, iou
from tests.reference import overlap

corners = st.integers(0, 60)


@st.composite
def random_boxes(draw: st.DrawFn, min_side: int = 0) -> NDArray[np.float32]:
    rows = draw(st.lists(st.tuples(corners, corners, corners, corners), max_size=6))
    return as_boxes([(x, y, x + w + min_side, y + h + min_side) for x, y, w, h in rows])


def test_no_boxes_are_boxes() -> None:
    assert as_boxes([]).shape == (0, 4)
    assert as_boxes(np.zeros((0, 4))).dtype == np.float32
    assert iou(as_boxes([]), as_boxes([[0, 0, 1, 1]])).shape == (0, 1)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.zeros((3, 5)), r"boxes must have shape \(_, 4\), but got \(3, 5\)"),
        (np.zeros(4), r"but got \(4,\)"),
        ([[0, 0, 1, 1], [0, 0, np.nan, 1]], "row 1"),
        ([[0, 0, 1, 1], [5, 0, 4, 1]], r"x1 <= x2 and y1 <= y2, but row 1 is \[5.0, 0.0, 4.0, 1.0\]"),
    ],
)
def test_bad_boxes_are_named(boxes: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_boxes(boxes)  # type: ignore[arg-type]


def test_areas_and_overlaps_by_hand() -> None:
    boxes = as_boxes([[0, 0, 10, 10], [5, 5, 15, 15], [20, 20, 20, 30]])
    assert area(boxes).tolist() == [100, 100, 0]
    expected = np.array([[1, 25 / 175, 0], [25 / 175, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(iou(boxes, boxes), expected, rtol=1e-6)


@given(random_boxes(), random_boxes())
def test_overlap_equals_its_twin(a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    expected = np.array([[overlap(x, y) for y in b] for x in a]).reshape(len(a), len(b))
    np.testing.assert_allclose(iou(a, b), expected, rtol=1e-6)


def test_clipping_moves_corners_inside() -> None:
    boxes = as_boxes([[-5, -5, 5, 5], [90, 40, 120, 80], [200, 200, 300, 300]])
    assert clip(boxes, 50, 100).tolist() == [[0, 0, 5, 5], [90, 40, 100, 50], [100, 50, 100, 50]]


def test_deltas_by_hand() -> None:
    deltas = encode_deltas(as_boxes([[0, 0, 10, 20]]), as_boxes([[5, 10, 25, 20]]))
    # center (5, 10) -> (15, 15); sides (10, 20) -> (20, 10)
    np.testing.assert_allclose(deltas, [[1.0, 0.25, np.log(2), np.log(0.5)]], rtol=1e-6)


@given(random_boxes(min_side=1), st.data())
def test_decoding_undoes_encoding(boxes: NDArray[np.float32], data: st.DataObject) -> None:
    sides = data.draw(arrays(np.float32, (len(boxes), 2), elements=st.integers(5, 40)))
    targets = np.concatenate([boxes[:, :2] + 3, boxes[:, :2] + 3 + sides], axis=1)
    expected_ratio = np.clip(sides / (boxes[:, 2:] - boxes[:, :2]), 1 / 16, 16)
    moved = decode_deltas(boxes, encode_deltas(boxes, targets))
    np.testing.assert_allclose(moved[:, :2] + moved[:, 2:], targets[:, :2] + targets[:, 2:], atol=1e-3)
    np.testing.assert_allclose(moved[:, 2:] - moved[:, :2], expected_ratio * (boxes[:, 2:] - boxes[:, :2]), atol=1e-3)


def test_wild_deltas_stay_finite() -> None:
    moved = decode_deltas(as_boxes([[0, 0, 10, 10]]), np.array([[0, 0, 500, 500]], np.float32))
    assert moved.tolist() == [[-75, -75, 85, 85]]


def test_boxes_of_the_mirror_image() -> None:
    boxes = as_boxes([[0, 1, 3, 4], [2, 0, 10, 5]])
    assert flip(boxes, 10).tolist() == [[7, 1, 10, 4], [0, 0, 8, 5]]
    np.testing.assert_array_equal(flip(flip(boxes, 10), 10), boxes)
