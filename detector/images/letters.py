"""Draw lines of text on images: ASCII by OpenCV's font, any other script by the bitmaps of GNU Unifont.

`unifont.npz` holds the characters of Unicode's Basic Multilingual Plane, under the license in `UNIFONT_LICENSE.txt`;
`dev/unifont.py` makes it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SIDE, _BASELINE = 16, 14
"""Height of a bitmap, and its rows above the baseline."""
_ZOOM = 2
"""Pixels per row of a bitmap at scale 1, where capital letters are about as high as OpenCV's."""
_RIGHT_TO_LEFT = ("R", "AL")


class _Glyphs(NamedTuple):
    """Characters in ascending order, (N,) uint16, their widths in pixels, (N,), and their bitmaps, (N, 32) uint8."""

    code_points: NDArray[np.uint16]
    widths: NDArray[np.uint8]
    bits: NDArray[np.uint8]


def text_size(text: str, scale: float, stroke: int) -> tuple[int, int, int]:
    """Return the width of a line of text, its height above the baseline, and its depth below, in pixels."""
    if text.isascii():
        (width, height), depth = cv2.getTextSize(text, _FONT, scale, stroke)
        return width, height, depth
    mask = _mask(text, scale)
    height = round(mask.shape[0] * _BASELINE / _SIDE)
    return mask.shape[1], height, mask.shape[0] - height


def draw_text(
    canvas: NDArray[np.uint8],
    text: str,
    origin: tuple[int, int],
    scale: float,
    color: tuple[int, int, int],
    stroke: int = 1,
) -> None:
    """Draw a line of text on an (H, W, 3) uint8 image; parts outside of it are left out.

    origin: column of its beginning, row of its baseline. scale: 1 is 22 pixels for a capital letter. stroke: thickness
    of ASCII letters, pixels.
    """
    if text.isascii():
        cv2.putText(canvas, text, origin, _FONT, scale, color, stroke, cv2.LINE_AA)
        return
    mask = _mask(text, scale)
    left, top = origin[0], origin[1] - round(mask.shape[0] * _BASELINE / _SIDE)
    height, width = canvas.shape[:2]
    mask = mask[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    rows, columns = mask.shape
    place = canvas[max(0, top) :, max(0, left) :][:rows, :columns]
    place[:] = np.rint(place + (np.array(color) - place) * (mask[..., None] / 255)).astype(np.uint8)


def _mask(text: str, scale: float) -> NDArray[np.uint8]:
    """Return how much of each pixel a line of text covers, (h, w) uint8."""
    whole = np.concatenate([np.zeros((_SIDE, 0), np.uint8), *_columns(text)], axis=1)
    zoom = scale * _ZOOM
    size = max(1, round(whole.shape[1] * zoom)), max(1, round(_SIDE * zoom))
    if not whole.size:
        return np.zeros((size[1], 0), np.uint8)
    smaller = cv2.resize(whole, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    return smaller.astype(np.uint8, copy=False)


def _columns(text: str) -> list[NDArray[np.uint8]]:
    """Return the bitmaps of letters from left to right, (16, w) uint8 of 0 and 255; marks lie on their letters."""
    columns: list[NDArray[np.uint8]] = []
    glyphs = _glyphs()
    for letter in _visual_order(unicodedata.normalize("NFC", text)):
        row = int(np.searchsorted(glyphs.code_points, ord(letter)))
        bitmap = np.unpackbits(glyphs.bits[row]).reshape(_SIDE, _SIDE) * np.uint8(255)
        width = int(glyphs.widths[row])
        if width or not columns:
            columns.append(bitmap[:, : width or _SIDE])
        else:
            columns[-1] = np.maximum(columns[-1], bitmap[:, _SIDE - columns[-1].shape[1] :])
    return columns


def _visual_order(text: str) -> Iterator[str]:
    """Yield the letters from left to right, with the code point of those that the font lacks."""
    for part in re.split(r"(\S+)", text):
        ordered = part
        if any(unicodedata.bidirectional(letter) in _RIGHT_TO_LEFT for letter in part):
            # a mark stays behind its letter
            ordered = "".join(reversed(re.findall(r".[\u0300-\u036f\u0591-\u05c7\u064b-\u065f]*", part)))
        for letter in ordered:
            yield from letter if _is_drawn(letter) else f"U+{ord(letter):X}"


def _is_drawn(letter: str) -> bool:
    glyphs = _glyphs()
    if ord(letter) > 0xFFFF:
        return False
    row = int(np.searchsorted(glyphs.code_points, ord(letter)))
    return row < len(glyphs.code_points) and int(glyphs.code_points[row]) == ord(letter)


@cache
def _glyphs() -> _Glyphs:
    with (files("detector.images") / "unifont.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return _Glyphs(arrays["code_points"], arrays["widths"], arrays["bits"])
