"""Boxes of a large image, proposed on a smaller copy of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes
from detector.images.resizing import check_image


def propose_reduced(image: NDArray[np.uint8], propose: Callable[[NDArray[np.uint8]], Boxes], max_pixels: int) -> Boxes:
    """Boxes ``(R, 4)`` float32 of an ``(H, W, 3)`` uint8 image, which ``propose`` finds on at most ``max_pixels``.

    A larger image is averaged down to about so many; the boxes are returned in pixels of the image itself. Time and
    memory are bounded then, and what is lost is smaller than what a network sees of an image that is resized to the
    paper's scales anyway.
    """
    height, width = check_image(image).shape[:2]
    if height * width <= max_pixels:
        return propose(image)
    zoom = math.sqrt(max_pixels / (height * width))
    size = max(1, int(width * zoom)), max(1, int(height * zoom))
    # averaging, because points picked out of a fine texture would make edges that are not there
    boxes = propose(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    scale = np.array([width / size[0], height / size[1]] * 2, np.float32)
    return np.minimum(boxes * scale, np.array([width, height] * 2, np.float32))
