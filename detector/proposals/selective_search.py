"""Selective search (Uijlings et al., "Selective Search for Object Recognition", IJCV 2013).

Where the paper and its authors' code differ, this module follows the code: texture (see `regions`), one-channel color
spaces (see `convert_colors`), rounded instead of truncated bins, and initial regions ranked once per segmentation,
after all merged ones, however many groupings share them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes
from detector.images.resizing import check_image
from detector.proposals.grouping import (
    Regions,
    Similarity,
    group,
    group_with_parts,
    large_enough,
    near_duplicates_last,
    random_order,
    without_duplicates,
)
from detector.proposals.regions import (
    Texels,
    color_bins,
    color_histograms,
    neighbor_pairs,
    region_extents,
    texels,
    texture_histograms,
)
from detector.proposals.segmentation import PixelGraph, pixel_graph, segment
from detector.runtime.threads import thread_count

COLOR_SPACES = ("hsv", "lab", "rgi", "hue", "intensity")


def convert_colors(image: NDArray[np.uint8], color_space: str) -> NDArray[np.uint8]:
    """Convert an (H, W, 3) uint8 RGB image to one of `COLOR_SPACES`: (H, W, 3) uint8, channels stretched to 0..255.

    "hue" and "intensity" have one channel, repeated three times as in the authors' code, so that the constant k of the
    segmentation weighs the same in every space. "rgi" is r and g of normalized RGB, and intensity. Lab is OpenCV's
    (D65); MATLAB's in the authors' code is D50.
    """
    if color_space == "hsv":
        return cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    if color_space == "lab":
        return cv2.cvtColor(image, cv2.COLOR_RGB2Lab)
    if color_space == "rgi":
        total = np.maximum(image.sum(axis=2, dtype=np.float32), 1)[..., None]
        normalized = (image[..., :2] * np.float32(255) / total + np.float32(0.5)).astype(np.uint8)
        return np.dstack([normalized, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)])
    if color_space == "hue":
        hue = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)[..., 0]
        return np.dstack([hue, hue, hue])
    if color_space == "intensity":
        return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    raise ValueError(f"color space must be one of {', '.join(COLOR_SPACES)}, but got {color_space!r}")


CTSF = Similarity(color=1, texture=1, size=1, fill=1)
TSF = Similarity(color=0, texture=1, size=1, fill=1)
F = Similarity(color=0, texture=0, size=0, fill=1)
S = Similarity(color=0, texture=0, size=1, fill=0)


class Mode(NamedTuple):
    """Groupings of a search, one per color space, k and similarity, and the constants they share."""

    color_spaces: tuple[str, ...]
    """From `COLOR_SPACES`."""
    ks: tuple[float, ...]
    """Scales of the segmentation; k is also the minimum number of pixels of a region."""
    similarities: tuple[Similarity, ...]
    sigma: float = 0.8
    """Pixels of the smoothing before segmentation."""
    color_bins: int = 25
    texture_bins: int = 10
    texture_sigma: float = 0.8
    max_gradient: float = 0.43


MODES = {
    "single": Mode(("hsv",), (100,), (CTSF,)),
    "fast": Mode(("hsv", "lab"), (50, 100), (CTSF, TSF)),
    "quality": Mode(("hsv", "lab", "rgi", "hue", "intensity"), (50, 100, 150, 300), (CTSF, TSF, F, S)),
}
"""Modes of the paper (table 5): 1, 8 and 80 groupings."""

RANKINGS = ("random", "diverse")
DIVERSE_IOU = 0.9
LARGE_IMAGE = 3_000_000
"""Bytes of an image above which color spaces are processed one after the other."""

MAX_PIXELS = 1 << 30


def selective_search(
    image: NDArray[np.uint8],
    mode: str | Mode = "fast",
    max_boxes: int = 2000,
    seed: int = 0,
    *,
    ranking: str = "diverse",
    min_side: int = 20,
    threads: int | None = None,
) -> Boxes:
    """Propose boxes that may hold an object.

    image: (H, W, 3) uint8 RGB.
    mode: "single", "fast", "quality", or a custom `Mode`.
    seed: of the random part of the ranking.
    ranking: "random" is the paper's order, the rank in the hierarchy times a uniform random number (section 4.4);
        "diverse" moves boxes with an IoU above 0.9 with an earlier box behind all others, which recalls more objects
        with the same number of boxes.
    min_side: pixels; boxes with a shorter side are dropped, except the box of the whole image.
    threads: number of threads; None: the environment variable DETECTOR_THREADS or, where it is not set, all cores.

    Returns (R, 4) float32, R <= max_boxes, half-open, best first, without duplicates. Equal arguments give equal boxes,
    whatever the number of threads. Raises ValueError for other images and unknown modes. The first call compiles the
    kernels, with a line on stderr.
    """
    image = check_image(image)
    if image.shape[0] * image.shape[1] > MAX_PIXELS:
        raise ValueError(f"image must have at most {MAX_PIXELS} pixels, but got {image.shape[0]} x {image.shape[1]}")
    if ranking not in RANKINGS:
        raise ValueError(f"ranking must be one of {', '.join(RANKINGS)}, but got {ranking!r}")
    settings = _settings(mode)
    boxes, ranks = _all_groupings(image, settings, thread_count(threads))
    height, width = image.shape[:2]
    boxes = boxes[random_order(ranks, seed)]
    boxes = boxes[large_enough(boxes, min_side, height, width)]
    boxes = boxes[without_duplicates(boxes, height, width)]
    if ranking == "diverse":
        boxes = boxes[near_duplicates_last(boxes, DIVERSE_IOU, max_boxes)]
    return boxes[:max_boxes].astype(np.float32)


def _settings(mode: str | Mode) -> Mode:
    if isinstance(mode, Mode):
        return mode
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, but got {mode!r}")
    return MODES[mode]


class _Prepared(NamedTuple):
    """Input that all segmentations in one color space share."""

    shape: tuple[int, int]
    graph: PixelGraph
    colors: NDArray[np.uint8]
    textures: Texels


def _prepare(image: NDArray[np.uint8], mode: Mode, color_space: str) -> _Prepared:
    converted = convert_colors(image, color_space)
    first = np.ascontiguousarray(converted[..., 0])
    return _Prepared(
        converted.shape[:2],
        pixel_graph(converted, mode.sigma),
        color_bins(converted, mode.color_bins),
        texels(first, mode.texture_sigma, mode.texture_bins, mode.max_gradient),
    )


def _regions(image: _Prepared, mode: Mode, k: float) -> tuple[NDArray[np.int32], Regions]:
    """Return the regions of a segmentation, and their labels ``(H * W,)``."""
    labels, n_regions = segment(image.graph, k, min_size=int(k))
    sizes, boxes = region_extents(labels.reshape(image.shape), n_regions)
    pairs = neighbor_pairs(labels.reshape(image.shape), n_regions)
    colors = color_histograms(image.colors, mode.color_bins, labels, sizes)
    return labels, Regions(sizes, boxes, pairs, colors, texture_histograms(image.textures, labels, sizes))


class Hierarchy(NamedTuple):
    """One grouping of a search, from its first regions to the last merge."""

    labels: NDArray[np.int32]
    """(H, W), the region of each pixel at first, 0..R-1."""
    boxes: NDArray[np.int32]
    """(R - 1, 4) half-open, of the merged regions R.., in the order of merging."""
    parts: NDArray[np.int32]
    """(R - 1, 2), the regions that were merged; fewer where merging ended before all was one."""


def hierarchy(image: NDArray[np.uint8], mode: str | Mode = "single") -> Hierarchy:
    """Segment an ``(H, W, 3)`` uint8 RGB image and merge its regions, by the first grouping of a mode."""
    image, settings = check_image(image), _settings(mode)
    prepared = _prepare(image, settings, settings.color_spaces[0])
    labels, regions = _regions(prepared, settings, settings.ks[0])
    return Hierarchy(labels.reshape(image.shape[:2]), *group_with_parts(regions, settings.similarities[0]))


def _groupings(image: _Prepared, mode: Mode, k: float) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the boxes of a segmentation and its groupings, and their ranks in the hierarchy, 1 for the last merged."""
    _, regions = _regions(image, mode, k)
    n_regions = len(regions.sizes)
    merged = [group(regions, similarity) for similarity in mode.similarities]
    ranks = [np.arange(n_regions - 1, n_regions - 1 - len(boxes), -1) for boxes in merged]
    return np.concatenate([*merged, regions.boxes]), np.concatenate([*ranks, np.full(n_regions, n_regions)])


def _all_groupings(image: NDArray[np.uint8], mode: Mode, threads: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    # large images go through one color space after the other, to save memory: each is enough work for all threads
    n_at_once = len(mode.color_spaces) if image.size < LARGE_IMAGE else 1
    found = []
    for start in range(0, len(mode.color_spaces), n_at_once):
        color_spaces = mode.color_spaces[start : start + n_at_once]
        if threads > 1:
            found += _groupings_in_threads(image, mode, color_spaces, threads)
        else:
            prepared = (_prepare(image, mode, color_space) for color_space in color_spaces)
            found += [_groupings(each, mode, k) for each in prepared for k in mode.ks]
    return np.concatenate([boxes for boxes, _ in found]), np.concatenate([ranks for _, ranks in found])


def _groupings_in_threads(
    image: NDArray[np.uint8], mode: Mode, color_spaces: tuple[str, ...], threads: int
) -> list[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    with ThreadPoolExecutor(threads) as pool:
        images = [pool.submit(_prepare, image, mode, color_space) for color_space in color_spaces]
        # the first one ready is segmented first; the order of the results is that of the mode
        parts = {
            (images.index(ready), k): pool.submit(_groupings, ready.result(), mode, k)
            for ready in as_completed(images)
            for k in mode.ks
        }
        return [parts[index, k].result() for index in range(len(images)) for k in mode.ks]


def propose_reduced(
    image: NDArray[np.uint8],
    propose: Callable[[NDArray[np.uint8]], Boxes],
    max_pixels: int | None = None,
    zoom: float = 1.0,
) -> Boxes:
    """Propose boxes ``(R, 4)`` float32 in an ``(H, W, 3)`` uint8 image, on a copy of at most ``max_pixels`` pixels.

    The sides of the copy are at most ``zoom`` times those of the image. It is averaged down; the boxes are returned in
    pixels of the image itself. With a limit, time and memory are bounded, and objects that get lost are smaller than
    those that a network sees at the paper's scales.
    """
    height, width = check_image(image).shape[:2]
    if max_pixels is not None:
        zoom = min(zoom, math.sqrt(max_pixels / (height * width)))
    if zoom >= 1:
        return propose(image)
    size = max(1, int(width * zoom)), max(1, int(height * zoom))
    # averaging, because sampling a fine texture would create edges that are not there
    boxes = propose(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    scale = np.array([width / size[0], height / size[1]] * 2, np.float32)
    return np.minimum(boxes * scale, np.array([width, height] * 2, np.float32))
