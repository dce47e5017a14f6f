"""Boxes drawn on the pixels of a file as they are stored, on the image as EXIF turns it."""

import numpy as np
from numpy.typing import NDArray

from detector.images.decoding import ImageHeader

_SIDEWAYS = (5, 6, 7, 8)
_MIRRORED = (2, 3, 6, 7)
_FLIPPED = (3, 4, 7, 8)


def turned(boxes: NDArray[np.float64], header: ImageHeader) -> NDArray[np.float64]:
    """Boxes ``(N, 4)`` of stored pixels, where they are in the image of ``header``, which obeys its orientation.

    As EXIF's Orientation says: 5 to 8 swap rows and columns, then sides are mirrored.
    """
    if header.orientation in _SIDEWAYS:
        boxes = boxes[:, [1, 0, 3, 2]]
    x1, y1, x2, y2 = boxes.T
    if header.orientation in _MIRRORED:
        x1, x2 = header.width - x2, header.width - x1
    if header.orientation in _FLIPPED:
        y1, y2 = header.height - y2, header.height - y1
    return np.stack([x1, y1, x2, y2], axis=1)


def drawn_on_stored(size: tuple[int, int] | None, header: ImageHeader) -> bool | None:
    """Whether boxes of an image annotated as ``size`` (width, height) were drawn on its stored pixels.

    False where the size is the turned image's, or not known: labelling tools show images turned. None where it is
    neither's: the image is another one. Turns that keep the size leave no trace and count as obeyed.
    """
    if size is None or size == (header.width, header.height):
        return False
    if header.orientation in _SIDEWAYS and size == (header.height, header.width):
        return True
    return None
