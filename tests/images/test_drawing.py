"""Drawn boxes and labels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.images.drawing import class_color, draw_boxes
from detector.images.letters import draw_text, text_size

NAMES = ["dog", "motorbike with sidecar", "café 猫"]


def draw(
    image: NDArray[np.uint8], boxes: list[list[float]], labels: list[int], scores: list[float]
) -> NDArray[np.uint8]:
    captions = [f"{NAMES[label]} {score:.2f}" for label, score in zip(labels, scores, strict=False)]
    return draw_boxes(image, np.array(boxes, np.float32), np.array(labels), captions, np.array(scores, np.float32))


def gray(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 128, np.uint8)


def test_box_lines_lie_on_the_first_and_last_pixels_of_the_box() -> None:
    drawn = draw(gray(100, 120), [[20, 40, 81, 91]], [0], [0.5])
    for row, column in ((90, 20), (90, 80), (90, 50), (70, 20), (70, 80)):
        assert tuple(drawn[row, column].tolist()) == class_color(0)
    assert (drawn[91:] == 128).all()  # half-open: row 91 and column 81 are outside
    assert (drawn[60:, 81:] == 128).all()
    assert (drawn[60:, :20] == 128).all()
    assert (drawn[60:90, 21:80] == 128).all()


def test_a_dashed_box_has_gaps_within_the_same_corners() -> None:
    box, labels = np.array([[20, 40, 81, 91]], np.float32), np.array([0])
    full, dashed = (draw_boxes(gray(100, 120), box, labels, [""], None, np.array([each])) for each in (False, True))
    inked = [(each[60:] != 128).any(axis=2) for each in (full, dashed)]  # below the caption
    assert 0.4 < inked[1].sum() / inked[0].sum() < 0.7
    assert not (inked[1] & ~inked[0]).any()
    assert (dashed[90, 20:81] == class_color(0)).all(axis=1).any() and (dashed[90, 20:81] == 128).all(axis=1).any()


def test_the_image_itself_is_left_alone() -> None:
    image = gray(60, 60)
    drawn = draw(image, [[5, 5, 50, 50]], [0], [1.0])
    assert (image == 128).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8


def test_no_boxes_draw_nothing() -> None:
    image = gray(60, 60)
    drawn = draw_boxes(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), [])
    np.testing.assert_array_equal(drawn, image)
    assert drawn is not image


def test_the_label_sits_above_the_box_or_inside_at_the_top_edge() -> None:
    color = np.array(class_color(0))
    above = (draw(gray(400, 400), [[50, 200, 350, 380]], [0], [0.5]) == color).all(axis=2)
    assert above[188:198, 52].all()
    assert not above[210:370, 54].any()
    inside = (draw(gray(400, 400), [[50, 0, 350, 380]], [0], [0.5]) == color).all(axis=2)
    assert inside[:12, 52].all()


def test_the_best_score_is_on_top() -> None:
    boxes = [[10.0, 30.0, 90.0, 90.0]] * 2
    for scores, winner in (([0.9, 0.1], 0), ([0.1, 0.9], 2)):
        drawn = draw(gray(100, 100), boxes, [0, 2], scores)
        assert tuple(drawn[89, 50].tolist()) == class_color(winner)


def test_lines_and_letters_grow_with_the_image() -> None:
    def line_width(size: int) -> int:
        drawn = draw(gray(size, size), [[0.1 * size, 0.4 * size, 0.9 * size, 0.9 * size]], [0], [0.5])
        column = drawn[size // 2 + size // 5 :, size // 2]
        return int((column == class_color(0)).all(axis=1).sum())

    assert line_width(100) == 1
    assert 8 <= line_width(2000) <= 13


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    box=st.tuples(*[st.floats(-400, 400, width=32) for _ in range(4)]),
    label=st.integers(0, 2),
)
@settings(deadline=None, max_examples=200)
def test_labels_never_leave_the_image(
    height: int, width: int, box: tuple[float, float, float, float], label: int
) -> None:
    (x1, x2), (y1, y2) = sorted(box[:2]), sorted(box[2:])
    texts: list[tuple[int, int, int, int]] = []

    def watch(
        canvas: NDArray[np.uint8], text: str, origin: tuple[int, int], scale: float, color: Any, stroke: int
    ) -> None:
        text_width, text_height, depth = text_size(text, scale, stroke)
        texts.append((origin[0], origin[1] - text_height, origin[0] + text_width, origin[1] + depth))
        draw_text(canvas, text, origin, scale, color, stroke)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detector.images.drawing.draw_text", watch)
        draw(gray(height, width), [[x1, y1, x2, y2]], [label], [-0.5])
    left, top, right, bottom = texts[0]
    assert left >= 0
    assert top >= 0
    if min(height, width) >= 8:  # below, not even one letter has room
        assert right <= width + 1
        assert bottom <= height + 1


def test_letters_of_dark_and_light_colors() -> None:
    """Yellow needs black letters, dark blue white ones; both have to appear in the label."""
    for label in range(20):
        color = np.array(class_color(label))
        box = np.array([[10, 40, 90, 90]], np.float32)
        drawn = draw_boxes(gray(100, 100), box, np.array([label]), [str(label)])[:39]
        distance = np.abs(drawn.astype(int) - color).sum(axis=2)[(drawn != 128).any(axis=2)]
        assert distance.max() > 300


def test_colors_are_stable_and_distinct() -> None:
    colors = [class_color(label) for label in range(100)]
    assert colors == [class_color(label) for label in range(100)]
    assert len(set(colors)) == 100
    assert all(0 <= value <= 255 for color in colors for value in color)
    closest = min(np.abs(np.subtract(a, b)).sum() for a, b in itertools.combinations(colors[:20], 2))
    assert closest >= 40


@pytest.mark.parametrize(
    ("boxes", "labels", "scores", "message"),
    [
        ([[0, 0, 5, 5]], [0, 1], [0.5], r"dashed must have length 1, but got \[2, 1, 1, 1\]"),
        ([[0, 0, 5, 5]], [0], [], r"dashed must have length 1, but got \[1, 0, 0, 1\]"),
        ([[0, 0, 5]], [0], [0.5], r"boxes must have shape \(_, 4\), but got \(1, 3\)"),
    ],
)
def test_bad_arrays_are_refused(boxes: list[list[float]], labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(gray(20, 20), boxes, labels, scores)


def test_bad_images_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8 RGB"):
        draw(np.zeros((5, 5), np.uint8), [], [], [])
