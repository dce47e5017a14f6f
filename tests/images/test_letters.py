"""Text in every script: legible, distinct, in its order, and never outside of the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.images.letters import draw_text, text_size

BLACK = (0, 0, 0)


def drawn(text: str, scale: float = 0.5) -> NDArray[np.uint8]:
    """Return a line of text in black on white, with nothing around it."""
    width, height, depth = text_size(text, scale, 1)
    canvas = np.full((height + depth, width, 3), 255, np.uint8)
    draw_text(canvas, text, (0, height), scale, BLACK)
    return canvas


def test_names_in_every_script_differ() -> None:
    names = [
        "狗",
        "猫",
        "犬",
        "собака",
        "кошка",
        "σκύλος",
        "كلب",
        "כלב",
        "कुत्ता",
        "สุนัข",
        "개",
        "Ærø",
        "Straße",
        "Strasse",
        "🐶",
        "🐱",
    ]
    images = {name: drawn(name).tobytes() for name in names}
    assert len(set(images.values())) == len(names)
    for name in names:
        assert (drawn(name) < 100).mean() > 0.05, name


def test_a_letter_is_the_bitmap_of_the_font() -> None:
    ink = (drawn("я")[..., 0] < 128).tolist()
    rows = ["".join(".#"[each] for each in row) for row in ink]
    assert [row for row in rows if "#" in row] == [
        "..#####.",
        ".#....#.",
        ".#....#.",
        ".#....#.",
        "..#####.",
        "...#..#.",
        "..#...#.",
        ".#....#.",
    ]


def test_hebrew_is_written_from_right_to_left_and_numbers_are_not() -> None:
    first, second, digits = drawn("א"), drawn("ב"), drawn("12\u00a0")[:, :16]
    np.testing.assert_array_equal(drawn("אב"), np.concatenate([second, first], axis=1))
    line = drawn("אב 12")
    np.testing.assert_array_equal(line[:, -16:], digits)


def test_accents_lie_on_their_letters() -> None:
    np.testing.assert_array_equal(drawn("e\u0301"), drawn("é"))
    # no composed letter exists for this one
    assert drawn("я\u0301").shape == drawn("я").shape
    assert (drawn("я\u0301") < 128).sum() > (drawn("я") < 128).sum()


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 3.3])
def test_letters_grow_with_the_scale(scale: float) -> None:
    width, height, depth = text_size("狗", scale, 1)
    assert abs(height + depth - 16 * 2 * scale) <= 1
    assert width == height + depth


@given(text=st.text(max_size=8), x=st.integers(-60, 60), y=st.integers(-60, 60), scale=st.floats(0.05, 2))
def test_any_text_is_drawn_anywhere(text: str, x: int, y: int, scale: float) -> None:
    canvas = np.full((40, 50, 3), 255, np.uint8)
    draw_text(canvas, f"狗{text}", (x, y), scale, BLACK)
    width, height, depth = text_size(f"狗{text}", scale, 1)
    outside = np.ones(canvas.shape[:2], np.bool_)
    outside[max(0, y - height) : max(0, y + depth), max(0, x) : max(0, x + width)] = False
    assert (canvas[outside] == 255).all()
