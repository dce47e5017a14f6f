"""Draw boxes and captions on images."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes, clip
from detector.images.letters import draw_text, text_size
from detector.images.resizing import check_image

Color = tuple[int, int, int]

# M. Okabe and K. Ito, Color Universal Design (2008): distinct with every common kind of color vision
_PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_BLACK: Color = (0, 0, 0)
_WHITE: Color = (255, 255, 255)


def class_color(label: int) -> Color:
    """Return the RGB color of a class index, the same in every image: color-blind safe colors, then spread hues."""
    if label < len(_PALETTE):
        return _PALETTE[label]
    # steps of the golden ratio put every new hue into the largest gap between the earlier ones
    hue = label * 0.618033988749895 % 1.0
    saturation, value = ((0.85, 0.95), (0.5, 1.0), (0.9, 0.65))[label % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_boxes(
    image: NDArray[np.uint8],
    boxes: Boxes,
    labels: NDArray[np.int64],
    captions: Sequence[str],
    ranks: NDArray[np.float32] | None = None,
    dashed: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Return a copy of the image with every box and its caption, that of the highest rank on top.

    image: (H, W, 3) uint8 RGB. boxes: (N, 4) pixels. labels: (N,), which choose the colors. captions: N texts.
    ranks: (N,), by default the last box is on top. dashed: (N,), by default none.
    Lines and letters grow with the image, and captions never leave it. Raises ValueError for arrays of other shapes.
    """
    canvas = check_image(image).copy()
    height, width = canvas.shape[:2]
    boxes, labels = as_boxes(boxes), np.asarray(labels)
    ranks = np.arange(len(boxes), dtype=np.float32) if ranks is None else ranks
    dashed = np.zeros(len(boxes), np.bool_) if dashed is None else dashed
    lengths = [len(each) for each in (labels, captions, ranks, dashed)]
    if lengths != [len(boxes)] * 4:
        raise ValueError(f"labels, captions, ranks and dashed must have length {len(boxes)}, but got {lengths}")
    corners = np.rint(clip(boxes, height, width)).astype(int)
    order = np.argsort(ranks, kind="stable")
    for i in order:
        _draw_box(canvas, corners[i].tolist(), class_color(int(labels[i])), bool(dashed[i]))
    for i in order:  # after all boxes, whose lines would cross the letters
        _draw_label(canvas, corners[i, :2].tolist(), captions[i], class_color(int(labels[i])))
    return canvas


def _line_width(canvas: NDArray[np.uint8]) -> int:
    return max(1, round(min(canvas.shape[:2]) / 200))


def _draw_box(canvas: NDArray[np.uint8], corners: list[int], color: Color, dashed: bool) -> None:
    """Draw a half-open box with a rim of the opposite brightness, so that it is visible on any background."""
    x1, y1, x2, y2 = corners
    line = _line_width(canvas)
    rim = (line + 2) // 4
    right, bottom = max(x2 - 1, x1), max(y2 - 1, y1)
    # one stroke around the box, or one for each dash
    strokes = [np.array([[x1, y1], [right, y1], [right, bottom], [x1, bottom]])]
    if dashed:
        strokes = [*_dashes(x1, right, y1, bottom, 4 * line)]
    for ink, thickness in ((contrast(color), line + 2 * rim), (color, line)) if rim else ((color, line),):
        cv2.polylines(canvas, strokes, not dashed, ink, thickness)


def _dashes(x1: int, x2: int, y1: int, y2: int, length: int) -> Iterator[NDArray[np.int64]]:
    """Yield the dashes of a rectangle as pairs of points, (2, 2) int64; gaps are as long as dashes."""
    for start in range(x1, x2 + 1, 2 * length):
        yield from (np.array([[start, y], [min(start + length, x2), y]]) for y in (y1, y2))
    for start in range(y1, y2 + 1, 2 * length):
        yield from (np.array([[x, start], [x, min(start + length, y2)]]) for x in (x1, x2))


def _draw_label(canvas: NDArray[np.uint8], corner: list[int], text: str, color: Color) -> None:
    """Draw text on a filled background above the corner, or inside the image where it would leave it."""
    height, width = canvas.shape[:2]
    scale = max(0.4 if text.isascii() else 0.5, min(height, width) / 900)
    stroke = max(1, round(scale * 1.5))
    pad = 1 + _line_width(canvas)
    text_width, text_height, descent = text_size(text, scale, stroke)
    needed_width, needed_height = text_width + 2 * pad, text_height + descent + 2 * pad
    fit = min(1.0, width / needed_width, height / needed_height)
    if fit < 1:
        scale, pad, stroke = scale * fit, int(pad * fit), 1
        text_width, text_height, descent = text_size(text, scale, stroke)
        needed_width, needed_height = text_width + 2 * pad, text_height + descent + 2 * pad
    left = max(0, min(corner[0], width - needed_width))
    top = max(0, min(corner[1], height) - needed_height)
    cv2.rectangle(canvas, (left, top), (left + needed_width - 1, top + needed_height - 1), color, cv2.FILLED)
    origin = (left + pad, top + pad + text_height)
    draw_text(canvas, text, origin, scale, contrast(color), stroke)


def contrast(background: Color) -> Color:
    """Return black or white, whichever is readable on a color."""
    red, green, blue = background
    return _BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 127 else _WHITE


_WIDTH, _HEIGHT, _CAPTION, _GAP = 320, 240, 18, 6
_COLUMNS = 4


def contact_sheet(
    tiles: Iterable[tuple[NDArray[np.uint8], Boxes, NDArray[np.int64], str]], class_names: Sequence[str]
) -> NDArray[np.uint8]:
    """Return one (H, W, 3) uint8 RGB image of all ``tiles``, four in a row.

    A tile is an (H, W, 3) uint8 RGB image, its boxes (N, 4) in pixels, their labels (N,), and a caption. Raises
    ValueError for no tile.
    """
    drawn = [_tile(*tile, class_names) for tile in tiles]
    if not drawn:
        raise ValueError("there is no image to show")
    columns = min(_COLUMNS, len(drawn))
    blank = np.full_like(drawn[0], 255)
    drawn += [blank] * (-len(drawn) % columns)
    rows = [np.concatenate(drawn[start : start + columns], axis=1) for start in range(0, len(drawn), columns)]
    return np.concatenate(rows)


def _tile(
    image: NDArray[np.uint8], boxes: Boxes, labels: NDArray[np.int64], caption: str, class_names: Sequence[str]
) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    zoom = min(_WIDTH / width, _HEIGHT / height)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    # drawn on the small copy, so that lines and letters have one size in all tiles
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_NEAREST)
    zooms = np.array([size[0] / width, size[1] / height] * 2, np.float32)
    small = draw_boxes(small, boxes * zooms, labels, [class_names[label] for label in labels])
    tile = np.full((_HEIGHT + _CAPTION + 2 * _GAP, _WIDTH + 2 * _GAP, 3), 255, np.uint8)
    tile[_GAP : _GAP + size[1], _GAP : _GAP + size[0]] = small
    draw_text(tile, caption, (_GAP, _GAP + _HEIGHT + _CAPTION - 5), 0.4 if caption.isascii() else 0.5, _BLACK)
    return tile
