"""Embed images in the page, each once and small enough for the page's limit, and draw heat maps of attributions."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.images.files import read_image

LONG_SIDES = (640, 480, 384, 320, 256, 192)
"""Longer sides in pixels after shrinking; the first that fits is used."""
_QUALITY = 78
_PROBES = 6


class Embedded(NamedTuple):
    """An image in the page; ``box`` is the part ``x1 y1 x2 y2`` of the original, in pixels."""

    url: str
    box: tuple[float, float, float, float]


def embed_images(paths: Sequence[Path], wanted: Sequence[int], budget: int) -> dict[int, Embedded]:
    """Embed images of ``paths`` by index, in the order of ``wanted`` until ``budget`` bytes are spent.

    Files that cannot be read are left out.
    """
    side = _fitting_side([paths[number] for number in wanted], budget)
    found: dict[int, Embedded] = {}
    for number in wanted:
        image = _read(paths[number])
        if image is None:
            continue
        height, width = image.shape[:2]
        each = Embedded(to_url(shrink(image, side)), (0, 0, width, height))
        budget -= len(each.url)
        if budget < 0:
            break
        found[number] = each
    return found


def draw_heat(image: NDArray[np.uint8], heat: NDArray[np.float32], box: NDArray[np.float64]) -> Embedded:
    """Draw the surroundings of a box (4,) in gray, red where ``heat`` (H, W) is positive and blue where negative."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = surroundings(box, width, height)
    part, values = image[y1:y2, x1:x2], heat[y1:y2, x1:x2]
    gray = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)[..., None] * 0.6 + 90
    strength = np.sqrt(np.abs(values) / max(float(np.abs(heat).max()), 1e-12))[..., None] * 0.75
    color = np.where(values[..., None] > 0, np.array([213.0, 50.0, 0.0]), np.array([0.0, 90.0, 200.0]))
    mixed = np.clip(gray * (1 - strength) + color * strength, 0, 255).astype(np.uint8)
    return Embedded(to_url(shrink(mixed, LONG_SIDES[-1])), (x1, y1, x2, y2))


def surroundings(box: NDArray[np.float64], width: int, height: int) -> tuple[int, int, int, int]:
    """Return a box grown by a quarter of its sides, inside the image, at least a pixel large."""
    x1, y1, x2, y2 = box.tolist()
    margin_x, margin_y = (x2 - x1) / 4 + 4, (y2 - y1) / 4 + 4
    left, top = int(np.clip(x1 - margin_x, 0, width - 1)), int(np.clip(y1 - margin_y, 0, height - 1))
    return left, top, int(np.clip(x2 + margin_x, left + 1, width)), int(np.clip(y2 + margin_y, top + 1, height))


def shrink(image: NDArray[np.uint8], long_side: int) -> NDArray[np.uint8]:
    """Shrink an image to a longer side of at most ``long_side`` pixels."""
    height, width = image.shape[:2]
    zoom = long_side / max(height, width)
    if zoom >= 1:
        return image
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def to_url(image: NDArray[np.uint8]) -> str:
    """Encode an image as the data URL of a JPEG."""
    bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _fitting_side(paths: Sequence[Path], budget: int) -> int:
    """Return the longest side at which all images probably fit, estimated from a few of them."""
    step = max(1, len(paths) // _PROBES)
    probes = list(_readable(paths[::step]))
    for side in LONG_SIDES:
        mean = np.mean([len(to_url(shrink(image, side))) for image in probes]) if probes else 0.0
        if mean * len(paths) <= budget:
            return side
    return LONG_SIDES[-1]


def _readable(paths: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    for path in paths:
        image = _read(path)
        if image is not None:
            yield image


def _read(path: Path) -> NDArray[np.uint8] | None:
    try:
        return read_image(path)
    except (OSError, ValueError):
        return None
