"""What panels are drawn with: at twice its size, shrunk once in the end, so that edges are smooth."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.images.drawing import Colour, to_ascii

Image = NDArray[np.uint8]

ZOOM = 2
INK: Colour = (32, 33, 36)
FAINT: Colour = (112, 117, 122)
# M. Okabe and K. Ito, Color Universal Design (2008): vermilion and blue are told apart with every kind of vision
FOR: Colour = (213, 94, 0)
AGAINST: Colour = (0, 114, 178)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPITALS = 22.0
"""Height of a capital letter of the font, in pixels at scale 1."""


class Canvas:
    """A white area of ``width`` x ``height`` pixels to draw on. Lengths and places are in these pixels."""

    def __init__(self, width: int, height: int) -> None:
        self._pixels: Image = np.full((height * ZOOM, width * ZOOM, 3), 255, np.uint8)

    def finished(self) -> Image:
        """The drawing, ``(height, width, 3)`` uint8 RGB."""
        height, width = self._pixels.shape[:2]
        return cv2.resize(self._pixels, (width // ZOOM, height // ZOOM), interpolation=cv2.INTER_AREA)

    def write(
        self,
        text: str,
        x: float,
        y: float,
        capitals: float = 9,
        colour: Colour = INK,
        align: float = 0.0,
        strokes: float = 1.1,
    ) -> float:
        """Write a line that stands on ``y``, with capital letters so many pixels high; return where it ends.

        It begins at ``x``, or has its middle (``align`` 0.5) or its end (1) there.
        """
        scale, thickness = capitals * ZOOM / _CAPITALS, max(1, round(strokes * ZOOM))
        text = to_ascii(text)
        (width, _), _ = cv2.getTextSize(text, _FONT, scale, thickness)
        left = round(x * ZOOM - align * width)
        cv2.putText(self._pixels, text, (left, round(y * ZOOM)), _FONT, scale, colour, thickness, cv2.LINE_AA)
        return (left + width) / ZOOM

    def paste(self, image: Image, x: int, y: int, width: int, height: int) -> None:
        """Draw an image, stretched to ``width`` x ``height``, with its upper left corner at ``x``, ``y``."""
        size = (width * ZOOM, height * ZOOM)
        smaller = image.shape[1] > size[0]
        resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        self._pixels[y * ZOOM : (y + height) * ZOOM, x * ZOOM : (x + width) * ZOOM] = resized

    def frame(self, corners: Iterable[float], colour: Colour, line: float) -> None:
        """Draw the edge of a rectangle ``x1 y1 x2 y2``."""
        x1, y1, x2, y2 = corners
        first, last = (round(x1 * ZOOM), round(y1 * ZOOM)), (round(x2 * ZOOM) - 1, round(y2 * ZOOM) - 1)
        cv2.rectangle(self._pixels, first, last, colour, max(1, round(line * ZOOM)))

    def fill(self, x1: float, y1: float, x2: float, y2: float, colour: Colour) -> None:
        """Fill a rectangle."""
        self._pixels[round(y1 * ZOOM) : round(y2 * ZOOM), round(x1 * ZOOM) : round(x2 * ZOOM)] = colour


def tint(image: Image, strength: NDArray[np.floating], contrast: float = 0.5) -> Image:
    """A grey copy of an ``(H, W, 3)`` image, coloured by ``(H, W)`` strengths in -1..1: against, and for.

    ``contrast`` is what is left of that of the image.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    base = np.repeat((255 - contrast * (255 - grey))[..., None], 3, axis=2)
    weight = 0.85 * np.clip(np.abs(strength), 0, 1).astype(np.float32)[..., None]
    colour = np.where(strength[..., None] > 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    return np.rint(base + weight * (colour - base)).astype(np.uint8)


def signed(value: float, decimals: int = 2) -> str:
    """A number with its sign, so short as it may be: +0.12; what rounds to nothing is 0."""
    text = f"{value:+.{decimals}f}"
    return "0" if not float(text) else text
