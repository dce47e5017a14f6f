"""Many images with their boxes on one, for people to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes
from detector.images.drawing import draw_detections

_WIDTH, _HEIGHT, _CAPTION, _GAP = 320, 240, 18, 6
_COLUMNS = 4


def contact_sheet(
    tiles: Iterable[tuple[NDArray[np.uint8], Boxes, NDArray[np.int64], str]], class_names: Sequence[str]
) -> NDArray[np.uint8]:
    """One (H, W, 3) uint8 RGB image of all ``tiles``, four in a row.

    A tile is an image (H, W, 3) uint8 RGB, its boxes (N, 4) in its pixels, their labels (N,), and a caption. Raises
    ValueError where there is none.
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
    # drawn on the small copy, whose lines and letters are then as wide and as large as in the others
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_NEAREST)
    zooms = np.array([size[0] / width, size[1] / height] * 2, np.float32)
    small = draw_detections(small, boxes * zooms, labels, None, class_names)
    tile = np.full((_HEIGHT + _CAPTION + 2 * _GAP, _WIDTH + 2 * _GAP, 3), 255, np.uint8)
    tile[_GAP : _GAP + size[1], _GAP : _GAP + size[0]] = small
    text = caption.encode("ascii", "replace").decode()
    origin = (_GAP, _GAP + _HEIGHT + _CAPTION - 5)
    cv2.putText(tile, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return tile
