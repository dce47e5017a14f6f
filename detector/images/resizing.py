"""Images as arrays: the contract, and resizing to a given shorter side as in the paper."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def check_image(image: Any) -> NDArray[np.uint8]:
    """Return ``image``, C-contiguous, if it is (H, W, 3) uint8 and not empty; raise ValueError otherwise."""
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image must be (H, W, 3) uint8 RGB, but got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must be (H, W, 3) uint8 RGB, but got {image.shape} {image.dtype}")
    return np.ascontiguousarray(image)


def resized_size(height: int, width: int, short_side: int, max_long_side: int | None = None) -> tuple[int, int, float]:
    """Return height and width in pixels after resizing, and the zoom (resized over original) of both axes.

    The shorter side becomes ``short_side`` exactly; the longer one is rounded up, as MATLAB does in the
    authors' release. The paper has no limit on the longer side; ``max_long_side`` (default: 4 *
    ``short_side``, which touches no ordinary photograph) keeps extreme aspect ratios from growing without
    bound: where it binds, the zoom shrinks and both sides are rounded up. Raises ValueError for a size below
    1.
    """
    max_long_side = 4 * short_side if max_long_side is None else max_long_side
    if min(height, width, short_side, max_long_side) < 1:
        raise ValueError(
            "height, width, short_side and max_long_side must be at least 1, "
            f"but got {height}, {width}, {short_side} and {max_long_side}"
        )
    # Whole numbers, because the rounding of a floating-point zoom could add a pixel.
    numerator, denominator = short_side, min(height, width)
    if max(height, width) * numerator > max_long_side * denominator:
        numerator, denominator = max_long_side, max(height, width)
    new_height = -(-height * numerator // denominator)
    new_width = -(-width * numerator // denominator)
    return new_height, new_width, numerator / denominator


def resize_short_side(
    image: NDArray[np.uint8], short_side: int, max_long_side: int | None = None
) -> tuple[NDArray[np.uint8], float]:
    """Resize to `resized_size`; return the (h, w, 3) uint8 image and the zoom to multiply its boxes by.

    Bilinear with half-pixel centers and without antialiasing, on the uint8 values, as in the authors'
    release. A side that is rounded up is stretched by less than one pixel over its whole length.
    """
    image = check_image(image)
    height, width, zoom = resized_size(image.shape[0], image.shape[1], short_side, max_long_side)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), zoom


_SIDE = 16
NEAR = 28
"""Bits of `look` in which copies of one photograph differ at most.

Of VOC2007, copies of 0.6 times the size and JPEG quality 60 differ in at most 18 bits in 95 cases of 100, brighter ones
in 17; any two of 600 different images differ in 48 bits or more.
"""


def look(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The difference hash of an ``(H, W, 3)`` uint8 RGB image, ``(32,)`` uint8: 256 bits.

    Each says whether one of 16 x 16 fields is brighter than the one left of it: N. Krawetz, "Kind of like that" (2013).
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    fields = cv2.resize(gray, (_SIDE + 1, _SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    return np.packbits(fields[:, 1:] > fields[:, :-1])
