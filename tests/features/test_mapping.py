"""Best scale of a box and its window of cells."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.boxes import as_boxes
from detector.features.mapping import RELEASE_MARGIN, RELEASE_TARGET, boxes_to_cells, choose_scales
from tests.reference import covered_cells

quarters = st.integers(-400, 2400).map(lambda n: n / 4)


def release_cells(x1: float, x2: float) -> tuple[int, int]:
    """The release's formula for its ZF-5, in its own 1-based pixels and cells (X inclusive at both ends)."""
    return int(np.floor((x1 - 6.5) / 16) + 1), int(np.ceil((x2 - 3.5) / 16) - 1)


def test_margin_of_the_release_gives_its_formula() -> None:
    for x1 in np.arange(1, 400, 0.5):
        x2 = x1 + 60
        first, last = release_cells(x1, x2)
        # 1-based inclusive X is pixel X - 1, 1-based cell k is cell k - 1, pixel 20 is the center of cell 0
        box = as_boxes([[x1 - 1, 0, x2 - 1, 300]])
        cells = boxes_to_cells(box, 1.0, 16, 20.0, (1000, 1000), RELEASE_MARGIN)[0]
        assert (cells[0], cells[2] - 1) == (max(first - 1, 0), max(last - 1, 0))


def test_whole_standard_image_covers_all_cells() -> None:
    cells = boxes_to_cells(as_boxes([[0, 0, 224, 224]]), 1.0, 16, 20.0, (13, 13), RELEASE_MARGIN)
    assert cells.tolist() == [[0, 0, 13, 13]]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (
            [0, 0, 64, 48],
            [1, 1, 4, 3],
        ),  # centers 0, 16, 32, 48, 64: strictly inside are 16 .. 48 and 16 .. 32
        ([1, 1, 65, 49], [1, 1, 5, 4]),
        ([17, 17, 30, 30], [1, 1, 2, 2]),  # no center inside: the cell in the middle
        ([-500, -500, -400, -400], [0, 0, 1, 1]),  # outside: the nearest edge
        ([900, 10, 950, 900], [9, 1, 10, 8]),
    ],
)
def test_paper_rule_by_hand(box: list[float], expected: list[int]) -> None:
    assert boxes_to_cells(as_boxes([box]), 1.0, 16, 0.0, (8, 10)).tolist() == [expected]


@given(
    quarters,
    quarters,
    st.sampled_from([8, 16, 32]),
    st.sampled_from([0.0, 7.5, 20.0]),
    st.sampled_from([0, 1.5]),
)
def test_windows_equal_their_twin(start: float, side: float, stride: int, offset: float, margin: float) -> None:
    end = start + abs(side)
    first, last = covered_cells(Fraction(start), Fraction(end), stride, Fraction(offset), 20, Fraction(margin))
    for zoom in (0.5, 1.0, 2.0):
        box = as_boxes([[start / zoom, start / zoom, end / zoom, end / zoom]])
        cells = boxes_to_cells(box, zoom, stride, offset, (20, 20), margin)[0]
        assert cells.tolist() == [first, first, last + 1, last + 1]


def test_no_boxes_have_no_cells() -> None:
    assert boxes_to_cells(as_boxes([]), 1.0, 16, 0.0, (8, 8)).shape == (0, 4)
    assert choose_scales(as_boxes([]), [1.0]).shape == (0,)


def test_scales_by_hand() -> None:
    zooms = [1.0, 2.0, 4.0]
    boxes = as_boxes([[0, 0, 224, 224], [0, 0, 100, 100], [0, 0, 56, 56], [0, 0, 3, 3], [5, 5, 5, 5]])
    # 100 x 100: areas 1, 4 and 16 x 10^4 against 50176
    assert choose_scales(boxes, zooms).tolist() == [0, 1, 2, 2, 2]


def test_rules_disagree_where_they_should() -> None:
    # sqrt(area) 100: resized 150 or 260; areas differ from 224^2 by 27676 and 17424, from 208 in zoom by .58 and .52
    box = as_boxes([[0, 0, 100, 100]])
    assert choose_scales(box, [1.5, 2.6]).tolist() == [1]
    # 208 / 100 is nearer to 1.7 than to 2.5; in area 100 is nearer to 170^2 than 250^2 for 208^2 too, not for 224^2
    assert choose_scales(box, [1.7, 2.5], RELEASE_TARGET, "side").tolist() == [0]
    assert choose_scales(box, [1.7, 2.5], 224.0, "area").tolist() == [1]


def test_tie_goes_to_the_smaller_scale() -> None:
    assert choose_scales(as_boxes([[0, 0, 100, 100]]), [1.0, 3.0], 200.0, "side").tolist() == [0]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="rule must be 'area' or 'side', but is 'volume'"):
        choose_scales(as_boxes([[0, 0, 1, 1]]), [1.0], rule="volume")
    with pytest.raises(ValueError, match="at least one scale"):
        choose_scales(as_boxes([[0, 0, 1, 1]]), [])
