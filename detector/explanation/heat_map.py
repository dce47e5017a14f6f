"""From cells of a feature map to pixels of the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.backbones.geometry import Geometry


def spread(
    shares: NDArray[np.floating], zoom: float, geometry: Geometry, image_size: tuple[int, int]
) -> NDArray[np.float32]:
    """Spread the shares ``(h, w)`` of a map's cells evenly over their squares in the image: ``(H, W)`` float32.

    A cell's square has the stride of the map as its side, in pixels of the image as it was resized by ``zoom``, and
    the centre of the cell in its middle. What lies outside of the image goes to the rest of its row and column; a cell
    that lies outside as a whole goes to the edge. Sums stay as they are.
    """
    rows, columns = (
        _parts(count, zoom, geometry, pixels) for count, pixels in zip(shares.shape, image_size, strict=True)
    )
    return (rows.T @ shares @ columns).astype(np.float32)


def _parts(count: int, zoom: float, geometry: Geometry, pixels: int) -> NDArray[np.float64]:
    """How much of each cell along an axis falls on each pixel, ``(count, pixels)``; rows add up to 1."""
    # the geometry counts from the centre of the first pixel, half a pixel from the edge
    edges = (geometry.offset + 0.5 + (np.arange(count + 1) - 0.5) * geometry.stride) / zoom
    starts = np.clip(edges[:-1], 0, pixels - 1)
    ends = np.clip(edges[1:], 1, pixels)
    pixel = np.arange(pixels)
    overlaps = np.minimum(ends[:, None], pixel + 1) - np.maximum(starts[:, None], pixel)
    parts = np.maximum(overlaps, 0)
    return parts / parts.sum(1, keepdims=True)
