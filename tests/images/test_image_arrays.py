"""Images as arrays: what they must be, and resizing against a slow twin."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.images.resizing import check_image, resize_short_side, resized_size
from tests.images.encoded import IMAGE

# ---- the contract


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((10, 10, 4), np.float32), r"\(10, 10, 4\) float32"),
        (np.zeros((10, 10, 3), np.float32), r"\(10, 10, 3\) float32"),
        (np.zeros((10, 10), np.uint8), r"\(10, 10\) uint8"),
        (np.zeros((0, 10, 3), np.uint8), r"\(0, 10, 3\) uint8"),
        (None, "NoneType"),
        ([[[1, 2, 3]]], "list"),
    ],
)
def test_check_image_refuses(image: Any, got: str) -> None:
    with pytest.raises(ValueError, match=rf"image must be \(H, W, 3\) uint8 RGB, but got {got}"):
        check_image(image)


def test_check_image_makes_contiguous_and_copies_nothing_else() -> None:
    assert check_image(IMAGE) is IMAGE
    mirrored = check_image(IMAGE[:, ::-1])
    assert mirrored.flags.c_contiguous
    np.testing.assert_array_equal(mirrored, IMAGE[:, ::-1])


# ---- resizing


def test_resized_size_by_hand() -> None:
    assert resized_size(375, 500, 688) == (688, 918, 688 / 375)  # 917.33 rounded up
    assert resized_size(500, 375, 688) == (918, 688, 688 / 375)
    assert resized_size(333, 333, 688) == (688, 688, 688 / 333)
    assert resized_size(100, 400, 50) == (50, 200, 0.5)  # the limit itself
    assert resized_size(1, 5000, 688) == (1, 2752, 2752 / 5000)
    assert resized_size(375, 500, 688, max_long_side=688) == (516, 688, 688 / 500)


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 2000), st.integers(1, 8000) | st.none())
@settings(deadline=None)
def test_resized_size_properties(height: int, width: int, short_side: int, limit: int | None) -> None:
    new_height, new_width, zoom = resized_size(height, width, short_side, limit)
    limit = 4 * short_side if limit is None else limit
    exact = min(Fraction(short_side, min(height, width)), Fraction(limit, max(height, width)))
    assert zoom == float(exact)
    assert (new_height, new_width) == (ceil(height * exact), ceil(width * exact))
    assert 1 <= min(new_height, new_width) <= short_side
    assert max(new_height, new_width) <= limit


@pytest.mark.parametrize("sizes", [(0, 5, 5, 5), (5, 0, 5, 5), (5, 5, 0, 5), (5, 5, 5, 0), (5, 5, -1, None)])
def test_resized_size_refuses(sizes: tuple[int, int, int, int | None]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        resized_size(*sizes)


def bilinear(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """Pixel centers at half-integers, edges repeated, no antialiasing: one output pixel at a time."""
    result = np.zeros((height, width, 3))
    for row in range(height):
        y = min(max((row + 0.5) * image.shape[0] / height - 0.5, 0), image.shape[0] - 1)
        for column in range(width):
            x = min(max((column + 0.5) * image.shape[1] / width - 0.5, 0), image.shape[1] - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
            upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
            lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
            result[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return result


def test_resize_by_hand() -> None:
    image = np.repeat(np.array([[0, 100], [200, 40]], np.uint8)[..., None], 3, axis=2)
    resized, zoom = resize_short_side(image, 4)
    assert zoom == 2.0
    assert resized.dtype == np.uint8
    # Rows and columns at -0.25, 0.25, 0.75, 1.25 of the original, the outer two held at the edge.
    expected = [[0, 25, 75, 100], [50, 59, 76, 85], [150, 126, 79, 55], [200, 160, 80, 40]]
    assert np.abs(resized[..., 0].astype(float) - expected).max() <= 1


@pytest.mark.parametrize(("shape", "short_side"), [((9, 14), 20), ((30, 23), 9), ((40, 8), 8), ((7, 90), 5)])
def test_resize_equals_the_slow_twin(shape: tuple[int, int], short_side: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    resized, zoom = resize_short_side(image, short_side)
    height, width, expected_zoom = resized_size(*shape, short_side)
    assert resized.shape == (height, width, 3)
    assert zoom == expected_zoom
    assert np.abs(resized - bilinear(image, height, width)).max() <= 1


def test_resize_of_a_line() -> None:
    image = np.zeros((1, 5000, 3), np.uint8)
    image[:, 2500:] = 255
    resized, zoom = resize_short_side(image, 688)
    assert resized.shape == (1, 2752, 3)
    assert resized[0, 1370].tolist() == [0, 0, 0]
    assert resized[0, 1380].tolist() == [255, 255, 255]
    assert zoom == pytest.approx(2752 / 5000)


def test_resize_refuses_what_is_no_image() -> None:
    with pytest.raises(ValueError, match="uint8 RGB"):
        resize_short_side(np.zeros((5, 5), np.uint8), 10)
