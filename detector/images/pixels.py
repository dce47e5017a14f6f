"""Decoded pixels of any kind to (H, W, 3) uint8 RGB: depths, transparency, orientation."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIDEWAYS = (5, 6, 7, 8)
"""Orientations in which rows and columns are swapped."""
_BLOCK_PIXELS = 1 << 22


def to_rgb(pixels: NDArray[Any], premultiplied: bool) -> NDArray[np.uint8]:
    """Turn grey, BGR or BGRA of any depth into RGB of 8 bits, on white where it is transparent.

    Some rows at a time: what lies between takes many times the memory of the image.
    """
    height, width = pixels.shape[:2]
    step = max(1, _BLOCK_PIXELS // max(1, width))
    blocks = [slice(top, top + step) for top in range(0, height, step)]
    scale = 0.0
    if pixels.dtype not in (np.uint8, np.uint16):
        scale = 255 / max([1.0, *(float(_finite(pixels[rows]).max()) for rows in blocks)])
    if len(blocks) == 1:
        return _on_white(_to_uint8(pixels, scale), premultiplied)
    image = np.empty((height, width, 3), np.uint8)
    for rows in blocks:
        image[rows] = _on_white(_to_uint8(pixels[rows], scale), premultiplied)
    return image


def _finite(pixels: NDArray[Any]) -> NDArray[np.float32]:
    return np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0)


def _to_uint8(pixels: NDArray[Any], scale: float) -> NDArray[np.uint8]:
    """``scale``: of floating-point values."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return cv2.convertScaleAbs(pixels, alpha=255 / 65535)
    return np.rint(_finite(pixels) * np.float32(scale)).astype(np.uint8)


def _on_white(pixels: NDArray[np.uint8], premultiplied: bool) -> NDArray[np.uint8]:
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if pixels.shape[2] == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    colour = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
    alpha = pixels[..., 3:].astype(np.uint16)
    weighted = colour.astype(np.uint16) * (255 if premultiplied else alpha)
    white = 255 * (255 - alpha)
    # Premultiplied colours above their alpha are damage; the sum must not wrap around.
    return np.minimum((weighted.astype(np.uint32) + white + 127) // 255, 255).astype(np.uint8)


def oriented(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror as EXIF's Orientation says: 5 to 8 swap rows and columns, then sides are mirrored."""
    if orientation in SIDEWAYS:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
