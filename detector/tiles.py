"""Cut images into overlapping tiles, so that small objects of large images are seen larger.

A tile is searched and scored like an image, next to the whole image. `detector.heads.views` joins what is found.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np

from detector.boxes import Boxes, area, clip

Tiles = int | str
"""A number of tiles, the size "WxH" of one in pixels, or "auto"; see `parse_tiles`."""

AUTO = "auto"
OVERLAP = 0.2
"""Fraction of its sides that a tile shares with its neighbors: smaller objects are whole in one of them."""
MAX_TILES = 400
MAX_AUTO_TILES = 12
MIN_SIDE = 32
_MAX_SIDE = 100_000
_SEEN = 64
"""Pixels of a side at which a small object is seen well enough: `AUTO` cuts no image that shows it larger."""
_MAX_ENLARGEMENT = 2
"""`AUTO` enlarges the pixels of a tile by at most this: there is no more detail in them."""
_SIZE = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,5})", re.ASCII)


class Window(NamedTuple):
    """A part of an image: ``x1 y1 x2 y2`` in whole pixels, 0-based, half-open."""

    x1: int
    y1: int
    x2: int
    y2: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.y2 - self.y1, self.x2 - self.x1


def parse_tiles(value: Tiles) -> Tiles:
    """Check a number of tiles, "auto", or the size "WxH" of a tile; a number may come as text.

    Raises ValueError for everything else, for more than `MAX_TILES` tiles, and for sides below `MIN_SIDE` pixels.
    """
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 9:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if 1 <= value <= MAX_TILES:
            return value
        raise ValueError(f"must be 1 to {MAX_TILES} tiles, but is {value}")
    if value == AUTO:
        return AUTO
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        if all(MIN_SIDE <= int(side) <= _MAX_SIDE for side in match.groups()):
            return value
        raise ValueError(f"the sides of tiles must be {MIN_SIDE} to {_MAX_SIDE} pixels, but are {value}")
    raise ValueError(f"must be auto, a number of tiles, or the size of one such as 640x480, but is {str(value)[:40]!r}")


def tile_windows(
    size: tuple[int, int], tiles: Tiles | None, short_side: int, object_side: float | None = None
) -> list[Window]:
    """Return the tiles of an image row by row; none where the whole image is enough.

    size: height and width of the image. tiles: see `parse_tiles`; None for none.
    short_side: pixels of the shorter side at which the network sees an image or tile, the largest of its scales.
    object_side: side in pixels of the small objects to find, for "auto"; None where it is not known.
    Raises ValueError for an image that would be cut into more than `MAX_TILES`.
    """
    height, width = size
    if tiles is None or not min(size):
        return []
    if isinstance(tiles, int):
        return _grid(size, *_sides_of(size, tiles))
    if tiles == AUTO:
        if object_side is not None and object_side * short_side / min(size) >= _SEEN:
            return []
        side = auto_side(short_side, object_side)
        counts = _count(height, side), _count(width, side)
        sides = (side, side) if math.prod(counts) <= MAX_AUTO_TILES else _sides_of(size, MAX_AUTO_TILES)
        return _grid(size, *sides)
    tile_width, tile_height = map(int, tiles.split("x"))
    n_tiles = _count(height, tile_height) * _count(width, tile_width)
    if n_tiles > MAX_TILES:
        raise ValueError(
            f"tiles of {tiles} pixels would cut the image of {width} x {height} into {n_tiles}, more than {MAX_TILES}: "
            "give larger ones"
        )
    return _grid(size, tile_height, tile_width)


def auto_side(short_side: int, object_side: float | None) -> int:
    """Return the side in pixels of the square tiles of "auto".

    They show small objects at `_SEEN` pixels; where their size is not known, every pixel as it is.
    """
    wanted = short_side if object_side is None else short_side * object_side / _SEEN
    return max(MIN_SIDE, math.ceil(short_side / _MAX_ENLARGEMENT), round(wanted))


def visible(boxes: Boxes, window: Window) -> tuple[Boxes, Boxes]:
    """Return the parts of ``(N, 4)`` boxes inside of a window, in its pixels, and the fraction ``(N,)`` they are.

    Boxes without area count as outside.
    """
    inside = clip(boxes - np.array([window.x1, window.y1, window.x1, window.y1], np.float32), *window.size)
    areas = area(boxes)
    return inside, area(inside) / areas.clip(1e-9)


def moved(boxes: Boxes, window: Window | None) -> Boxes:
    """Return ``(N, 4)`` boxes in a window in pixels of the image; None stands for the whole image."""
    if window is None:
        return boxes
    offset = np.array([window.x1, window.y1, window.x1, window.y1], np.float32)
    shifted: Boxes = boxes + offset
    return shifted


def _sides_of(size: tuple[int, int], n_tiles: int) -> tuple[int, int]:
    """Return height and width of tiles in a grid of at most ``n_tiles`` whose longer sides are the shortest."""
    height, width = size
    grids = [(_side(height, rows), _side(width, n_tiles // rows)) for rows in range(1, min(n_tiles, height) + 1)]
    return min(grids, key=lambda sides: (max(sides), min(sides)))


def _side(length: int, count: int) -> int:
    """Return the side of ``count`` tiles along a length."""
    return min(length, max(MIN_SIDE, math.ceil(length / (count - (count - 1) * OVERLAP))))


def _count(length: int, side: int) -> int:
    """Return the number of tiles of a side along a length, so that neighbors overlap by at least `OVERLAP`."""
    if side >= length:
        return 1
    # a side of `_side` is rounded up: its last pixel must not cost a tile
    return math.ceil((length - side) / (side * (1 - OVERLAP)) - 1e-9) + 1


def _grid(size: tuple[int, int], tile_height: int, tile_width: int) -> list[Window]:
    """Return evenly spaced tiles; none where a tile is the whole image."""
    height, width = size
    tile_height, tile_width = min(tile_height, height), min(tile_width, width)
    rows, columns = _starts(height, tile_height), _starts(width, tile_width)
    if len(rows) * len(columns) == 1:
        return []
    return [Window(x, y, x + tile_width, y + tile_height) for y in rows for x in columns]


def _starts(length: int, side: int) -> list[int]:
    count = _count(length, side)
    return [round(number * (length - side) / max(count - 1, 1)) for number in range(count)]
