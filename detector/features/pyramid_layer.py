"""Pool whole feature maps into a spatial pyramid, as a network layer (paper, sections 2.2 and 2.3, appendix A).

The bins are those of `detector.features.pooling`: bin ``i`` of a level of ``n`` bins over ``size`` cells spans
``floor(i * size / n)`` up to, not including, ``ceil((i + 1) * size / n)``, as in the paper's appendix and the
authors' release. (A window of ``ceil(size / n)`` and a stride of ``floor(size / n)``, as in section 2.3, would yield 9
bins instead of 6 over 10 cells.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from detector.features.pooling import PAPER_LEVELS, n_bins

Mode = Literal["max", "average"]


class SpatialPyramidPooling(nn.Module):
    """Pool maps of any size into the bins of a pyramid: ``(N, C, h, w)`` -> ``(N, n_bins * C)``, same dtype.

    levels: number of bins per side of each level. mode: "max" or "average" of the cells of a bin.
    n_bins: number of all bins, 50 for levels 6, 3, 2, 1.

    A row equals ``spatial_pyramid_pool`` on all cells of the map, flattened: levels in the order given, inside a level
    rows of bins before columns, inside a bin all channels. So channel ``c`` of bin ``(i, j)`` of a
    level ``n`` is at ``(first + i * n + j) * C + c``, where ``first`` is the number of bins of the levels before. Fully
    connected weights therefore fit features of whole maps and of regions alike. (The authors' release puts channels
    before bins inside a level, and level 1 first.)

    Maps are of any floating point type, values of any sign, and any size from 1 x 1, so bins of a level larger than
    the map repeat its cells. Where maxima tie, one cell gets the whole gradient.

    Compiled and exported networks (``torch.compile``, ``torch.export``, ``torch.onnx.export``) may have dynamic N, h
    and w. Their maxima equal the eager ones to the bit, their averages up to rounding.

    Raises ValueError for levels that are not positive, an unknown mode and maps that are not floating point, not 4-d
    or have no cells.
    """

    def __init__(self, levels: Sequence[int] = PAPER_LEVELS, mode: Mode = "max") -> None:
        super().__init__()
        self.n_bins = n_bins(levels)
        if mode not in ("max", "average"):
            raise ValueError(f'mode must be "max" or "average", but is {mode!r}')
        self.levels = tuple(levels)
        self.mode: Mode = mode

    def forward(self, maps: Tensor) -> Tensor:
        """Pool ``(N, C, h, w)`` maps of one size into ``(N, n_bins * C)``; N may be 0."""
        if maps.ndim != 4 or 0 in maps.shape[1:] or not maps.is_floating_point():
            raise ValueError(
                f"maps must be floating point (N, C, h, w) with C, h and w of 1 or more, but got {maps.dtype} "
                f"{tuple(maps.shape)}"
            )
        # torch's adaptive pooling has the same bins and is the fastest, but has no ONNX counterpart for dynamic sizes:
        # maxima cannot be exported, averages keep the bins of the size that was traced
        pool = pool_by_cells if torch.compiler.is_compiling() else _pool_adaptively
        grids: dict[int, Tensor] = {}
        for level in sorted(set(self.levels), reverse=True):
            # bins of a level that divides a finer one are unions of its bins; averages of overlapping bins are not
            finer = [done for done in grids if done % level == 0 and self.mode == "max"]
            grids[level] = pool(grids[min(finer)] if finer else maps, level, self.mode)
        return torch.cat([grids[level].flatten(2).mT for level in self.levels], dim=1).flatten(1)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, mode={self.mode!r}"


def bin_edges(size: int, level: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return the first cell and the cell after the last of every bin of a level over ``size`` cells.

    Two ``(level,)`` int64 tensors.

    Exact for any positive ``size`` and ``level`` (paper, appendix A). ``size`` may be symbolic while a network is
    exported.
    """
    index = torch.arange(level, device=device)
    return index * size // level, ((index + 1) * size + level - 1) // level


def pool_by_cells(maps: Tensor, level: int, mode: Mode) -> Tensor:
    """Pool ``(N, C, h, w)`` maps into one level, ``(N, C, level, level)``, by operations whose sizes may be symbolic.

    Maxima equal those of torch's adaptive pooling to the bit. Averages are taken in float32 at least.
    """
    if mode == "average":
        wide = maps.to(torch.promote_types(maps.dtype, torch.float32))
        return _pool_columns(_pool_columns(wide, level, mode).mT, level, mode).mT.to(maps.dtype)
    # columns before rows: where values tie, that keeps the first cell in reading order, as adaptive pooling does
    return _pool_columns(_pool_columns(maps, level, mode).mT, level, mode).mT


def _pool_columns(maps: Tensor, level: int, mode: Mode) -> Tensor:
    """Pool the columns of ``(N, C, h, w)`` maps into ``(N, C, h, level)``."""
    width = maps.shape[3]
    starts, ends = bin_edges(width, level, maps.device)
    longest = width // level + 2
    cells = starts[:, None] + torch.arange(longest, device=maps.device)
    # a shorter bin repeats its last cell, which does not change a maximum
    inside = torch.minimum(cells, ends[:, None] - 1)
    values = torch.unflatten(maps.index_select(3, inside.flatten()), 3, (level, longest))
    if mode == "max":
        return values.max(4).values
    return torch.where(cells < ends[:, None], values, 0).sum(4) / (ends - starts)


def _pool_adaptively(maps: Tensor, level: int, mode: Mode) -> Tensor:
    return adaptive_max_pool2d(maps, level) if mode == "max" else adaptive_avg_pool2d(maps, level)
