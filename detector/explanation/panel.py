"""Draw the attribution of a box as one image: the crop, the cells for and against its class, and the numbers."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, clip
from detector.explanation.attribution import Attribution
from detector.images.drawing import Color, contrast
from detector.images.letters import draw_text, text_size
from detector.images.resizing import check_image

Image = NDArray[np.uint8]

ZOOM = 2
INK: Color = (32, 33, 36)
FAINT: Color = (112, 117, 122)
# M. Okabe and K. Ito, Color Universal Design (2008): vermilion and blue differ with every kind of color vision
FOR: Color = (213, 94, 0)
AGAINST: Color = (0, 114, 178)

_CAPITALS = 22.0
"""Height of a capital letter of the font, in pixels at scale 1."""


class Canvas:
    """A white area of ``width`` x ``height`` pixels to draw on. Lengths and coordinates are in these pixels."""

    def __init__(self, width: int, height: int) -> None:
        self._pixels: Image = np.full((height * ZOOM, width * ZOOM, 3), 255, np.uint8)

    def finished(self) -> Image:
        """Return the drawing, ``(height, width, 3)`` uint8 RGB."""
        height, width = self._pixels.shape[:2]
        return cv2.resize(self._pixels, (width // ZOOM, height // ZOOM), interpolation=cv2.INTER_AREA)

    def write(
        self,
        text: str,
        x: float,
        y: float,
        capitals: float = 9,
        color: Color = INK,
        align: float = 0.0,
        strokes: float = 1.1,
    ) -> float:
        """Write a line with its baseline at ``y`` and capital letters of that height; return the x of its end.

        ``x`` is that of its beginning (``align`` 0), its middle (0.5) or its end (1).
        """
        scale, thickness = capitals * ZOOM / _CAPITALS, max(1, round(strokes * ZOOM))
        width, _, _ = text_size(text, scale, thickness)
        left = round(x * ZOOM - align * width)
        draw_text(self._pixels, text, (left, round(y * ZOOM)), scale, color, thickness)
        return (left + width) / ZOOM

    def paste(self, image: Image, x: int, y: int, width: int, height: int) -> None:
        """Draw an image, stretched to ``width`` x ``height``, with its upper left corner at ``x``, ``y``."""
        size = (width * ZOOM, height * ZOOM)
        smaller = image.shape[1] > size[0]
        resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        self._pixels[y * ZOOM : (y + height) * ZOOM, x * ZOOM : (x + width) * ZOOM] = resized

    def frame(self, corners: Iterable[float], color: Color, line: float) -> None:
        """Draw the edge of a rectangle ``x1 y1 x2 y2``."""
        x1, y1, x2, y2 = corners
        first, last = (round(x1 * ZOOM), round(y1 * ZOOM)), (round(x2 * ZOOM) - 1, round(y2 * ZOOM) - 1)
        cv2.rectangle(self._pixels, first, last, color, max(1, round(line * ZOOM)))

    def fill(self, x1: float, y1: float, x2: float, y2: float, color: Color) -> None:
        """Fill a rectangle."""
        self._pixels[round(y1 * ZOOM) : round(y2 * ZOOM), round(x1 * ZOOM) : round(x2 * ZOOM)] = color


def tint(image: Image, strength: NDArray[np.floating], contrast: float = 0.5) -> Image:
    """Return a gray copy of an ``(H, W, 3)`` image, colored by ``(H, W)`` strengths in -1 (against) to 1 (for).

    ``contrast`` is the fraction of the image's contrast that is kept.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    base = np.repeat((255 - contrast * (255 - gray))[..., None], 3, axis=2)
    weight = 0.85 * np.clip(np.abs(strength), 0, 1).astype(np.float32)[..., None]
    color = np.where(strength[..., None] > 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    return np.rint(base + weight * (color - base)).astype(np.uint8)


def signed(value: float, decimals: int = 2) -> str:
    """Format a number with its sign, such as +0.12; one that rounds to zero is 0."""
    text = f"{value:+.{decimals}f}"
    return "0" if not float(text) else text


_WIDTH = 1200
_WHITE: Color = (255, 255, 255)
_EDGE = 24
_GAP = 18
_TILE_WIDTH = (_WIDTH - 2 * _EDGE - 2 * _GAP) // 3
_TILE_HEIGHT = 340
_GRID = 300
_MIN_CELL = 40
"""Width in pixels below which a cell has no room for its number."""
_LINE = 22
_MAX_POSITIONS = 8


def draw_panel(image: Image, attribution: Attribution, color: Color, sentence: str = "") -> Image:
    """Draw the attribution of a box of an ``(H, W, 3)`` uint8 RGB image, 1200 pixels wide.

    color: of the class. sentence: line below the title.
    """
    image = check_image(image)
    part = _surroundings(attribution)
    zoom = min(_TILE_WIDTH / (part[2] - part[0]), _TILE_HEIGHT / (part[3] - part[1]))
    tiles = _EDGE + (74 if sentence else 48)
    grids = tiles + max(1, round((part[3] - part[1]) * zoom)) + 52
    table = min(len(attribution.positions), _MAX_POSITIONS + 1) * _LINE
    canvas = Canvas(_WIDTH, grids + max(_GRID, table) + 44)
    _draw_title(canvas, attribution, color, sentence)
    _draw_tiles(canvas, tiles, image, attribution, color, part, zoom)
    _draw_positions(canvas, grids, _draw_grids(canvas, grids, image, attribution) + 2 * _GAP, attribution)
    return canvas.finished()


def _draw_title(canvas: Canvas, attribution: Attribution, color: Color, sentence: str) -> None:
    title = f"{attribution.class_name} {attribution.detection.confidence}"
    # written once to find its end, and again on its background
    end = canvas.write(title, _EDGE + 10, 42, 14, strokes=1.6)
    canvas.fill(_EDGE, 18, end + 10, 52, color)
    canvas.write(title, _EDGE + 10, 42, 14, contrast(color), strokes=1.6)
    sums = {n: float(grid.sum()) for n, grid in attribution.levels.items()}
    score = "" if attribution.probability is None else f"score {attribution.score:.2f} "
    x = canvas.write(f"{score}= bias {signed(attribution.bias)}", end + 26, 41, 10)
    for n, value in sums.items():
        x = canvas.write(f"{signed(value)}", x + 12, 41, 10, FOR if value > 0 else AGAINST)
        x = canvas.write(f"({n} x {n})", x + 6, 41, 8, FAINT)
    if sentence:
        canvas.write(sentence, _EDGE, 78, 9.5)


def _draw_tiles(
    canvas: Canvas, top: int, image: Image, attribution: Attribution, color: Color, part: list[int], zoom: float
) -> None:
    """Draw a part of the image, and next to it the cells for and against, on one color scale."""
    x1, y1, x2, y2 = part
    crop = image[y1:y2, x1:x2]
    width, height = max(1, round((x2 - x1) * zoom)), max(1, round((y2 - y1) * zoom))
    heats = [attribution.heat_map("for"), attribution.heat_map("against")]
    strongest = max(float(np.abs(heat).max()) for heat in heats) or 1.0
    images = [crop] + [tint(crop, heat[y1:y2, x1:x2] / strongest) for heat in heats]
    sums = [float(heat.sum(dtype=np.float64)) for heat in heats]
    captions = (
        ("the box; thin: where it was scored", INK),
        (f"cells for {attribution.class_name}: {signed(sums[0])}", FOR),
        (f"cells against: {signed(sums[1])}", AGAINST),
    )
    for number, (tile, (caption, ink)) in enumerate(zip(images, captions, strict=True)):
        left = _EDGE + number * (_TILE_WIDTH + _GAP) + (_TILE_WIDTH - width) // 2
        canvas.paste(np.ascontiguousarray(tile), left, top, width, height)
        scored = [each.box for each in attribution.positions] if number == 0 else []
        thin: list[tuple[Boxes, Color, float]] = [
            (each, *pen) for each in scored for pen in ((INK, 2.0), (_WHITE, 1.0))
        ]
        for box, edge, line in [*thin, (attribution.box, contrast(color), 4.0), (attribution.box, color, 2.5)]:
            corners = (clip(box, *image.shape[:2]) - [x1, y1, x1, y1]) * zoom + [left, top, left, top]
            canvas.frame(corners, edge, line)
        canvas.write(caption, left + width / 2, top + height + 20, 9.5, ink, align=0.5)


def _surroundings(attribution: Attribution) -> list[int]:
    """Return the corners of the part of the image that holds the box and all its positions, with a margin."""
    boxes: Boxes = np.stack([attribution.box, *(each.box for each in attribution.positions)])
    first, last = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    margin = 0.15 * (last - first).max()
    height, width = attribution.image_size
    around = clip(np.concatenate([first - margin, last + margin]), height, width)
    x1, y1 = np.floor(around[:2]).astype(int).tolist()
    x2, y2 = np.ceil(around[2:]).astype(int).tolist()
    x1, y1 = min(x1, width - 1), min(y1, height - 1)
    return [x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)]


def _draw_grids(canvas: Canvas, top: int, image: Image, attribution: Attribution) -> int:
    """Draw the attributions of every level, finest first, on the box stretched to a square; return their right end."""
    x1, y1, x2, y2 = np.rint(clip(attribution.box, *image.shape[:2])).astype(int).tolist()
    crop = image[min(y1, image.shape[0] - 1) : max(y2, y1 + 1), min(x1, image.shape[1] - 1) : max(x2, x1 + 1)]
    levels = sorted(attribution.levels.items(), reverse=True)
    strongest = max(float(np.abs(grid).max()) for _, grid in levels) or 1.0
    left = _EDGE
    for number, (n, grid) in enumerate(levels):
        side = _GRID if number == 0 else max(70, min(_GRID, round(58 * n)))
        square = cv2.resize(np.ascontiguousarray(crop), (side * 2, side * 2), interpolation=cv2.INTER_LINEAR)
        cells = cv2.resize(grid.astype(np.float32), (side * 2, side * 2), interpolation=cv2.INTER_NEAREST)
        canvas.paste(tint(square, 0.9 * cells / strongest, contrast=0.2), left, top, side, side)
        cell = side / n
        for i in range(n):
            for j in range(n):
                x, y = left + j * cell, top + i * cell
                canvas.frame((x, y, x + cell, y + cell), _WHITE, 0.5)
                if cell >= _MIN_CELL:
                    canvas.write(signed(grid[i, j]), x + cell / 2, y + cell / 2 + 4, 7.5, INK, align=0.5)
        canvas.write(f"{n} x {n}", left + side / 2, top + side + 18, 9, align=0.5)
        left += side + _GAP
    return left - _GAP


def _draw_positions(canvas: Canvas, top: int, left: int, attribution: Attribution) -> None:
    """Write a line with scale, cells and score for every position."""
    columns, aligned = [left, left + 88, left + 318], (0.0, 0.0, 1.0)
    for x, title, align in zip(columns, ("short side", "cells in x and y", "score"), aligned, strict=True):
        canvas.write(title, x, top + 12, 8, FAINT, align)
    for number, position in enumerate(attribution.positions[:_MAX_POSITIONS]):
        x1, y1, x2, y2 = position.cells.tolist()
        height, width = position.cell_values.shape
        y = top + 12 + (number + 1) * _LINE
        cells = f"{x1}-{x2 - 1} of {width}, {y1}-{y2 - 1} of {height}"
        texts = (str(position.short_side), cells, f"{position.score:.2f}")
        for x, text, align in zip(columns, texts, aligned, strict=True):
            canvas.write(text, x, y, 8, INK, align)
    left_out = len(attribution.positions) - _MAX_POSITIONS
    if left_out > 0:
        canvas.write(f"and {left_out} more", columns[0], top + 12 + (_MAX_POSITIONS + 1) * _LINE, 8, FAINT)
