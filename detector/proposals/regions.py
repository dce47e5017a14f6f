"""Describe the regions of a segmentation: extents, neighbors, color and texture histograms.

Uijlings et al. 2013, section 3.2. For texture, the paper takes Gaussian derivatives at sigma = 1 of every channel; the
authors' code at sigma = 0.8 of the first channel only (hue of HSV, lightness of Lab), counted three times. This module
follows the code, which recalls as much at a third of the cost.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.runtime.compiling import Array, kernel


def region_extents(labels: NDArray[np.int32], n_regions: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return sizes in pixels (R,) int32 and half-open boxes (R, 4) int32 of the regions in labels (H, W) int32."""
    sizes = np.zeros(n_regions, np.int32)
    boxes = np.empty((n_regions, 4), np.int32)
    _measure(labels, sizes, boxes)
    return sizes, boxes


def neighbor_pairs(labels: NDArray[np.int32], n_regions: int) -> NDArray[np.int32]:
    """Return the pairs of regions that touch by a side or a corner: (P, 2) int32, lower number first, ascending."""
    codes = _pair_codes(labels, n_regions)
    codes = np.sort(codes[codes >= 0])
    return np.column_stack(np.divmod(codes, n_regions)).astype(np.int32)


@kernel
def _measure(labels: Array, sizes: Array, boxes: Array) -> None:
    height, width = labels.shape
    boxes[:, :2] = max(width, height)
    boxes[:, 2:] = 0
    for y in range(height):
        start = 0
        for x in range(1, width + 1):
            if x < width and labels[y, x] == labels[y, start]:
                continue
            region = np.uint32(labels[y, start])
            sizes[region] += x - start
            boxes[region, 0] = min(boxes[region, 0], start)
            boxes[region, 1] = min(boxes[region, 1], y)
            boxes[region, 2] = max(boxes[region, 2], x)
            boxes[region, 3] = y + 1
            start = x


@kernel
def _insert(table: Array, code: int) -> bool:
    """Insert a code into a hash table of a power-of-two size, -1 for empty; return whether it was new."""
    slot = (np.uint64(code) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)) & np.uint64(table.size - 1)
    while table[slot] != code:
        if table[slot] == -1:
            table[slot] = code
            return True
        slot = (slot + np.uint64(1)) & np.uint64(table.size - 1)
    return False


@kernel
def _enlarge(table: Array) -> Array:
    larger = np.full(4 * table.size, -1, np.int64)
    for code in table:
        if code != -1:
            _insert(larger, code)
    return larger


@kernel
def _pair_codes(labels: Array, n_regions: int) -> Array:
    """Return the codes lower * n_regions + higher of touching regions, each once, among entries of -1."""
    height, width = labels.shape
    table = np.full(1024, -1, np.int64)
    n_pairs = 0
    for y in range(height):
        here = labels[y]
        below = labels[min(y + 1, height - 1)]
        for x in range(width):
            right = min(x + 1, width - 1)
            if (here[x] == here[right]) & (here[x] == below[x]) & (here[x] == below[right]):
                continue
            for a, b in (
                (here[x], here[right]),
                (here[x], below[x]),
                (here[x], below[right]),
                (here[right], below[x]),
            ):
                if a != b and _insert(table, np.int64(min(a, b)) * n_regions + max(a, b)):
                    n_pairs += 1
            if 2 * n_pairs > table.size:
                table = _enlarge(table)
    return table


DIRECTIONS = 8
ONE = 1 << 15
"""Sum of a histogram, up to rounding: integers give equal similarities on every machine, and short ones vectorize."""


class Texels(NamedTuple):
    """Pixels whose slope in some direction falls into another bin than the first."""

    pixels: NDArray[np.int32]
    """(M,) in row order; a pixel is listed once per such direction, at most four times."""
    bins: NDArray[np.uint8]
    """(M,) direction * n_bins + bin."""
    n_bins: int


def color_bins(image: NDArray[np.uint8], n_bins: int) -> NDArray[np.uint8]:
    """Return the bin of every pixel in each channel, (H * W, 3) uint8; bins are numbered across the channels.

    Values are rounded to bins as in the authors' code, so the first and last bin are half as wide as the others.
    """
    if not 2 <= n_bins <= 85:
        raise ValueError(f"color bins must be 2 to 85 per channel, but got {n_bins}")
    bins = np.rint(np.arange(256)[:, None] * ((n_bins - 1) / 255)) + n_bins * np.arange(3)
    return cv2.LUT(image, bins.astype(np.uint8)[None]).reshape(-1, 3)


def texels(channel: NDArray[np.uint8], sigma: float, n_bins: int, max_gradient: float) -> Texels:
    """Bin the Gaussian derivatives of one channel (H, W) in eight directions, negative slopes clipped to zero.

    sigma: pixels. max_gradient: slope at the center of the last bin, in full ranges of the channel per pixel.
    """
    if not 2 <= n_bins <= 32:
        raise ValueError(f"texture bins must be 2 to 32 per direction, but got {n_bins}")
    radius = int(np.ceil(4 * sigma))
    x = np.arange(-radius, radius + 1)
    smooth = np.exp(-(x**2) / (2 * sigma**2))
    smooth /= smooth.sum()
    slope = x / sigma**2 * smooth * ((n_bins - 1) / (255 * max_gradient))
    smooth, slope = smooth.astype(np.float32), slope.astype(np.float32)
    along_x = cv2.sepFilter2D(channel, cv2.CV_32F, slope, smooth, borderType=cv2.BORDER_REPLICATE)
    along_y = cv2.sepFilter2D(channel, cv2.CV_32F, smooth, slope, borderType=cv2.BORDER_REPLICATE)
    pixels = np.empty(4 * channel.size, np.int32)
    bins = np.empty(4 * channel.size, np.uint8)
    n_texels = _list_texels(along_x.reshape(-1), along_y.reshape(-1), n_bins, pixels, bins)
    return Texels(pixels[:n_texels].copy(), bins[:n_texels].copy(), n_bins)


def color_histograms(
    bins: NDArray[np.uint8], n_bins: int, labels: NDArray[np.int32], sizes: NDArray[np.int32]
) -> NDArray[np.uint16]:
    """Return the color histograms of the regions, (R, 3 * n_bins) uint16, each row summing to ONE up to rounding.

    bins: (H * W, 3) from `color_bins`. labels: (H * W,) region numbers. sizes: (R,) pixels.
    """
    counts = np.zeros((sizes.size, 3 * n_bins), np.int32)
    _count_colors(bins, labels, counts)
    return _normalize(counts, 3 * sizes)


def texture_histograms(found: Texels, labels: NDArray[np.int32], sizes: NDArray[np.int32]) -> NDArray[np.uint16]:
    """Return the texture histograms of the regions, (R, 8 * n_bins) uint16, each row summing to ONE up to rounding."""
    counts = np.zeros((sizes.size, DIRECTIONS * found.n_bins), np.int32)
    _count_texels(found.pixels, found.bins, labels, counts)
    by_direction = counts.reshape(-1, DIRECTIONS, found.n_bins)
    by_direction[:, :, 0] = sizes[:, None] - by_direction.sum(axis=2)
    return _normalize(counts, DIRECTIONS * sizes)


def _normalize(counts: NDArray[np.int32], totals: NDArray[np.int32]) -> NDArray[np.uint16]:
    return np.rint(counts * (ONE / totals[:, None])).astype(np.uint16)


@kernel
def _count_colors(bins: Array, labels: Array, counts: Array) -> None:
    for pixel in range(labels.size):
        region = np.uint32(labels[pixel])
        for channel in range(3):
            counts[region, bins[pixel, channel]] += 1


@kernel
def _list_texels(along_x: Array, along_y: Array, n_bins: int, pixels: Array, bins: Array) -> int:
    half_root = np.float32(np.sqrt(0.5))
    n_texels = 0
    for pixel in range(along_x.size):
        x, y = along_x[pixel], along_y[pixel]
        if x * x + y * y < np.float32(0.25):
            continue
        for direction in range(4):
            slope = (x, (x + y) * half_root, y, (y - x) * half_root)[direction]
            bin = min(int(abs(slope) + np.float32(0.5)), n_bins - 1)
            if bin > 0:
                pixels[n_texels] = pixel
                bins[n_texels] = (direction + (4 if slope < 0 else 0)) * n_bins + bin
                n_texels += 1
    return n_texels


@kernel
def _count_texels(pixels: Array, bins: Array, labels: Array, counts: Array) -> None:
    for i in range(pixels.size):
        counts[np.uint32(labels[np.uint32(pixels[i])]), bins[i]] += 1
