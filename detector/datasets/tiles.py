"""Tiles of annotated images, and their pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detector.boxes import area
from detector.datasets.dataset import Annotation
from detector.images.files import image_size, read_image
from detector.tiles import Window, visible

MIN_VISIBLE = 0.5
"""Fraction of an object that a tile must show for the tile to be trained on it."""


def cut(annotation: Annotation, window: Window) -> Annotation:
    """Return a tile of an annotated image, with the visible parts of its objects.

    Objects that are inside by less than `MIN_VISIBLE` are ignored: they are neither trained on nor background.
    """
    boxes, fractions = visible(annotation.boxes, window)
    kept = area(boxes) > 0
    cut_off = fractions < MIN_VISIBLE
    return replace(
        annotation,
        boxes=boxes[kept],
        labels=annotation.labels[kept],
        difficult=annotation.difficult[kept],
        window=window,
        ignored=cut_off[kept],
    )


def read_view(annotation: Annotation) -> NDArray[np.uint8]:
    """Read the image or tile of an annotation, ``(H, W, 3)`` uint8 RGB. Raises the errors of `read_image`."""
    return crop(read_image(annotation.path), annotation.window)


def view_size(annotation: Annotation) -> tuple[int, int]:
    """Return height and width of the image or tile of an annotation. Raises the errors of `image_size`."""
    return image_size(annotation.path) if annotation.window is None else annotation.window.size


def crop(image: NDArray[np.uint8], window: Window | None) -> NDArray[np.uint8]:
    """Return the part of an ``(H, W, 3)`` image in a window; None stands for the whole image.

    Raises ValueError for a window that is not inside the image.
    """
    if window is None:
        return image
    height, width = image.shape[:2]
    if window.x2 > width or window.y2 > height:
        raise ValueError(f"the tile {tuple(window)} is not inside the image of {width} x {height} pixels")
    return np.ascontiguousarray(image[window.y1 : window.y2, window.x1 : window.x2])
