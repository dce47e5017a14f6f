"""Views of an image for a classifier: crops, the whole, or crops at many scales (paper, section 3.1)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.images.resizing import check_image

Image = NDArray[np.uint8]
Views = Literal["one", "ten", "whole", "multi"]

MULTI_SIDES = (224, 256, 300, 360, 448, 560)
"""Shorter sides of the image for crops of `MULTI_CROP` pixels (paper, section 3.1.5)."""
MULTI_CROP = 224
MAX_ASPECT = 4


def resize_squeezed(image: Image, short_side: int) -> Image:
    """Resize an ``(H, W, 3)`` uint8 RGB image to a shorter side of ``short_side`` pixels; the longer one is rounded up.

    For images more than `MAX_ASPECT` times as long as wide, `detector.images.resizing.resize_short_side` keeps the
    proportions, which boxes need, with a smaller shorter side. Here the shorter side stays, which crops need, and the
    image is squeezed.
    """
    image = check_image(image)
    shorter = min(image.shape[:2])
    height, width = (min(-(-side * short_side // shorter), MAX_ASPECT * short_side) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def corners_and_center(height: int, width: int, side: int) -> Boxes:
    """Return crops ``(5, 4)`` of an image, the center last. Raises ValueError for a side above the image's."""
    return _crops([(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)], height, width, side)


def nine_crops(height: int, width: int, side: int) -> Boxes:
    """Return distinct crops ``(R, 4)`` at the corners, the middles of the edges and the center of an image.

    R is 9, or 3 if the side is one of the image's. Raises ValueError for a side above the image's.
    """
    return np.unique(_crops(itertools.product(range(3), range(3)), height, width, side), axis=0)


def _crops(places: Iterable[tuple[int, int]], height: int, width: int, side: int) -> Boxes:
    """Return crops by row and column of a 3 x 3 grid: 0 is the top or the left, 1 the middle."""
    if side > min(height, width):
        raise ValueError(f"crops of {side} pixels do not fit an image of {width} x {height}")
    tops, lefts = (np.array([0, free // 2, free]) for free in (height - side, width - side))
    return as_boxes([[lefts[x], tops[y], lefts[x] + side, tops[y] + side] for y, x in places])


def crop_box(image: Image, box: NDArray[np.float32]) -> Image:
    """Return the pixels of an image that a box ``x1 y1 x2 y2`` touches, at least one."""
    height, width = image.shape[:2]
    x1, y1 = (int(np.clip(np.floor(value), 0, end - 1)) for value, end in zip(box[:2], (width, height), strict=True))
    x2, y2 = (
        int(np.clip(np.ceil(value), start + 1, end))
        for value, start, end in zip(box[2:], (x1, y1), (width, height), strict=True)
    )
    return image[y1:y2, x1:x2]


def flipped(image: Image) -> Image:
    """Return the mirror image, left and right exchanged."""
    return image[:, ::-1]


def view_images(image: Image, views: Views, short_side: int, crop: int) -> list[Image]:
    """Return the views ``(h, w, 3)`` uint8 of an image: one crop, ten crops, or the whole.

    The image is resized to ``short_side`` before. Raises ValueError for a shorter side below the crop's, and for views
    "multi", which are crops of feature maps and not of images.
    """
    resized = resize_squeezed(image, short_side)
    height, width = resized.shape[:2]
    if views == "whole":
        return [resized]
    if views == "one":
        return [crop_box(resized, corners_and_center(height, width, crop)[-1])]
    if views == "ten":
        crops = [crop_box(resized, box) for box in corners_and_center(height, width, crop)]
        return [*crops, *map(flipped, crops)]
    raise ValueError(f"views must be one, ten or whole, but are {views!r}")


def multi_sides(crop: int) -> tuple[int, ...]:
    """Return `MULTI_SIDES` scaled to crops of ``crop`` pixels."""
    return tuple(round(side * crop / MULTI_CROP) for side in MULTI_SIDES)
