"""Of equal cells of a bin the first one counts, in reading order, and gets the whole gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detector.features.pooling import largest_cells, spatial_pyramid_pool
from detector.features.pyramid_layer import SpatialPyramidPooling, pool_by_cells
from tests.reference import bins

CELLS = np.array([[0, 0, 7, 5], [2, 1, 6, 5], [3, 2, 4, 3], [0, 4, 7, 5]])
LEVELS = (3, 1, 2)


def first_largest(feature_map: NDArray[np.float32], cells: NDArray[np.int64]) -> list[list[list[int]]]:
    """Loops over the cells of every bin, in reading order."""
    width, found = feature_map.shape[1], []
    for x1, y1, x2, y2 in cells.tolist():
        of_box = []
        for level in LEVELS:
            for rows in bins(y2 - y1, level):
                for columns in bins(x2 - x1, level):
                    places = [(y1 + y, x1 + x) for y in rows for x in columns]
                    best = [max(places, key=lambda at: (feature_map[at][c], -at[0], -at[1])) for c in range(2)]
                    of_box.append([y * width + x for y, x in best])
        found.append(of_box)
    return found


@pytest.mark.parametrize("n_values", [1, 2, 5])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_of_equal_cells_is_named(n_values: int, threads: int) -> None:
    feature_map = np.random.default_rng(n_values).integers(-1, n_values - 1, (5, 7, 2)).astype(np.float32)
    found = largest_cells(feature_map, CELLS, LEVELS, threads)
    assert found.tolist() == first_largest(feature_map, CELLS)
    pooled = spatial_pyramid_pool(feature_map, CELLS, LEVELS, threads)
    by_cell = np.take_along_axis(feature_map.reshape(-1, 2), found.reshape(-1, 2), 0)
    np.testing.assert_array_equal(by_cell.reshape(pooled.shape), pooled)
    assert largest_cells(feature_map, CELLS[:0], LEVELS).shape == (0, 14, 2)


def test_cells_are_checked() -> None:
    with pytest.raises(ValueError, match="inside the 5 x 7 map, but row 0 is"):
        largest_cells(np.zeros((5, 7, 1), np.float32), np.array([[0, 0, 8, 5]]))


def test_one_of_equal_cells_gets_the_whole_gradient() -> None:
    """All cells are equal: that of the first of each bin counts its bins, and all others get nothing."""
    whole = torch.zeros(1, 1, 2, 4, requires_grad=True)
    SpatialPyramidPooling((2, 1))(whole).sum().backward()
    assert whole.grad is not None
    # the bins begin at columns 0 and 2 of rows 0 and 1, and that of level 1 at the first cell
    assert whole.grad.tolist() == [[[[2, 0, 1, 0], [1, 0, 1, 0]]]]


def test_operations_for_export_name_the_same_cells() -> None:
    random = np.random.default_rng(0).integers(0, 3, (1, 2, 7, 9)).astype(np.float32)
    gradients = []
    for pool in (pool_by_cells, lambda maps, level, mode: torch.nn.functional.adaptive_max_pool2d(maps, level)):
        maps = torch.from_numpy(random).requires_grad_()
        (pool(maps, 3, "max") * torch.arange(9.0).view(3, 3)).sum().backward()
        assert maps.grad is not None
        gradients.append(maps.grad)
    assert torch.equal(*gradients)
