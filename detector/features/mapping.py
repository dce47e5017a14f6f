"""Choose the scale of a box, and map the box to cells of the feature map.

Cell ``k`` of a map has its center at pixel ``offset + k * stride`` of the resized image. A box covers the cells
whose centers lie strictly inside the box grown by ``margin`` pixels on every side. One rule covers the paper's
appendix (margin 0) and the authors' release (half a stride minus the 6.5 px by which it shrinks a box: 1.5 for the
released ZF-5, stride 16, offset 20).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, area

PAPER_MARGIN = 0.0
RELEASE_MARGIN = 1.5

# target of sqrt(area) of a resized box, in pixels: paper, section 4.1; release, 13 cells of 16 px
PAPER_TARGET = 224.0
RELEASE_TARGET = 208.0


def choose_scales(
    boxes: Boxes, zooms: Sequence[float], target: float = PAPER_TARGET, rule: str = "area"
) -> NDArray[np.int64]:
    """Return the scale ``(R,)`` int64, an index into ``zooms``, at which each ``(R, 4)`` box is nearest the target.

    zooms: resized over original size of each scale, ascending.
    rule: "area" (paper, section 4.1) takes the scale whose resized area is nearest ``target ** 2``; "side" (release)
        takes the zoom nearest ``target / sqrt(area)``. Ties take the smaller scale.
    Raises ValueError for another rule or no zooms.
    """
    if not len(zooms):
        raise ValueError("zooms must hold at least one scale, but is empty")
    areas = np.maximum(area(boxes).astype(np.float64), 1e-6)[:, None]
    factors = np.asarray(zooms, np.float64)[None, :]
    if rule == "area":
        distance = np.abs(areas * factors**2 - target**2)
    elif rule == "side":
        distance = np.abs(factors - target / np.sqrt(areas))
    else:
        raise ValueError(f"rule must be 'area' or 'side', but is {rule!r}")
    return distance.argmin(axis=1).astype(np.int64)


def boxes_to_cells(
    boxes: Boxes,
    zoom: float,
    stride: int,
    offset: float,
    map_size: tuple[int, int],
    margin: float = PAPER_MARGIN,
) -> NDArray[np.int64]:
    """Return the cells ``(R, 4)`` int64, half-open ``x1 y1 x2 y2``, that ``(R, 4)`` boxes cover on a feature map.

    boxes: in pixels of the original image. zoom: resized over original size.
    stride, offset, margin: in pixels of the resized image. map_size: (h, w) in cells.
    A box that covers no center collapses to the cell in the middle; then both ends are clamped to the map, so every
    box covers at least one cell (release: spm_pool; paper: appendix A).
    """
    resized = boxes.astype(np.float64) * zoom
    first = np.floor((resized[:, :2] - offset - margin) / stride).astype(np.int64) + 1
    last = np.ceil((resized[:, 2:] - offset + margin) / stride).astype(np.int64) - 1
    # floor((first + last) / 2): the release truncates towards zero, which differs only left of cell 0 and is clamped
    middle = (first + last) // 2
    empty = first > last
    limits = np.array([map_size[1] - 1, map_size[0] - 1], np.int64)
    first = np.clip(np.where(empty, middle, first), 0, limits)
    last = np.clip(np.where(empty, middle, last), 0, limits)
    return np.concatenate([first, last + 1], axis=1)
