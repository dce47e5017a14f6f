"""From cells of a feature map to pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.backbones.geometry import Geometry
from detector.explanation.attribution import spread


def test_an_attribution_lies_evenly_on_the_square_of_its_cell() -> None:
    # at zoom 2, cells of 8 pixels of the resized image are 4 of the image; the first center is at the middle of 8
    heat = spread(np.array([[16.0, 0], [0, -32]]), 2.0, Geometry(8, 3.5, 8), (8, 9))
    expected = np.zeros((8, 9))
    expected[:4, :4], expected[4:, 4:8] = 1, -2
    np.testing.assert_allclose(heat, expected)
    assert heat.dtype == np.float32


def test_pixels_on_the_edge_of_a_cell_get_a_part() -> None:
    heat = spread(np.array([[3.0, 0]]), 1.0, Geometry(3, 1.5, 3), (1, 6))
    # the first cell reaches from 0.5 to 3.5
    np.testing.assert_allclose(heat, [[0.5, 1, 1, 0.5, 0, 0]])


def test_what_lies_outside_of_the_image_goes_to_what_lies_inside() -> None:
    # the first cell reaches from -4 to 4 and the last one, as a whole outside, from 12 to 20
    heat = spread(np.array([[4.0, 0, 5]]), 1.0, Geometry(8, -0.5, 8), (1, 10))
    np.testing.assert_allclose(heat, [[1, 1, 1, 1, 0, 0, 0, 0, 0, 5]])


@given(
    st.integers(1, 7), st.integers(1, 7), st.floats(0.2, 5), st.integers(1, 32), st.floats(-20, 40),
    st.integers(1, 60), st.integers(1, 60), st.integers(0, 99),
)  # fmt: skip
def test_sums_stay_as_they_are(
    h: int, w: int, zoom: float, stride: int, offset: float, height: int, width: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(h, w))
    heat = spread(values, zoom, Geometry(stride, offset, 1), (height, width))
    assert heat.shape == (height, width)
    assert heat.sum(dtype=np.float64) == pytest.approx(values.sum(), abs=1e-5)
