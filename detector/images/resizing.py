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

    The shorter side becomes ``short_side`` exactly; the longer one is rounded up, as MATLAB does in the authors'
    release. The paper does not limit the longer side; ``max_long_side`` (default: 4 * ``short_side``, beyond ordinary
    photographs) bounds extreme aspect ratios: then the zoom shrinks and both sides are rounded up. Raises ValueError
    for a size below 1.
    """
    max_long_side = 4 * short_side if max_long_side is None else max_long_side
    if min(height, width, short_side, max_long_side) < 1:
        raise ValueError(
            "height, width, short_side and max_long_side must be at least 1, "
            f"but got {height}, {width}, {short_side} and {max_long_side}"
        )
    # whole numbers, because the rounding of a floating-point zoom could add a pixel
    numerator, denominator = short_side, min(height, width)
    if max(height, width) * numerator > max_long_side * denominator:
        numerator, denominator = max_long_side, max(height, width)
    new_height = -(-height * numerator // denominator)
    new_width = -(-width * numerator // denominator)
    return new_height, new_width, numerator / denominator


def resize_short_side(
    image: NDArray[np.uint8], short_side: int, max_long_side: int | None = None
) -> tuple[NDArray[np.uint8], float]:
    """Resize an image to `resized_size`; return the (h, w, 3) uint8 image and the zoom to multiply boxes by.

    Bilinear with half-pixel centers, without antialiasing, on uint8 values, as in the authors' release. A side that is
    rounded up is stretched by less than one pixel.
    """
    image = check_image(image)
    height, width, zoom = resized_size(image.shape[0], image.shape[1], short_side, max_long_side)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), zoom
