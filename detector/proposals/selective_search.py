"""Selective search (Uijlings et al., "Selective Search for Object Recognition", IJCV 2013).

Where the paper and the code its authors released differ, we follow the code: texture (see `texture`),
one-channel colour spaces (see `colour`), bins rounded rather than cut, and initial regions ranked once a
segmentation, behind all joined ones, however many groupings share them.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes
from detector.images.resizing import check_image
from detector.proposals.colour import convert_colours
from detector.proposals.grouping import Regions, Similarity, group
from detector.proposals.pixel_graph import PixelGraph, pixel_graph
from detector.proposals.ranking import large_enough, near_duplicates_last, random_order, without_duplicates
from detector.proposals.regions import neighbour_pairs, region_extents
from detector.proposals.segmentation import segment
from detector.proposals.texture import Texels, colour_bins, colour_histograms, texels, texture_histograms
from detector.runtime.threads import thread_count

CTSF = Similarity(colour=1, texture=1, size=1, fill=1)
TSF = Similarity(colour=0, texture=1, size=1, fill=1)
F = Similarity(colour=0, texture=0, size=0, fill=1)
S = Similarity(colour=0, texture=0, size=1, fill=0)


class Mode(NamedTuple):
    """Which groupings are made, one for each colour space, k and similarity, and the constants they share."""

    colour_spaces: tuple[str, ...]
    """Of `colour.COLOUR_SPACES`."""
    ks: tuple[float, ...]
    """Scales of observation of the segmentation; the smallest region has as many pixels."""
    similarities: tuple[Similarity, ...]
    sigma: float = 0.8
    """Pixels, of the smoothing before segmentation."""
    colour_bins: int = 25
    texture_bins: int = 10
    texture_sigma: float = 0.8
    max_gradient: float = 0.43


MODES = {
    "single": Mode(("hsv",), (100,), (CTSF,)),
    "fast": Mode(("hsv", "lab"), (50, 100), (CTSF, TSF)),
    "quality": Mode(("hsv", "lab", "rgi", "hue", "intensity"), (50, 100, 150, 300), (CTSF, TSF, F, S)),
}
"""The paper's (table 5): 1, 8 and 80 groupings."""

RANKINGS = ("random", "diverse")
DIVERSE_IOU = 0.9
LARGE_IMAGE = 3_000_000
"""Bytes."""

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

    image: (H, W, 3) uint8 RGB. mode: "single", "fast" or "quality", or a `Mode` of one's own. min_side:
    pixels; boxes with a shorter side are dropped, only the box of the whole image is always kept. seed: of
    the random part of the ranking. threads: how many to use; None for the environment variable
    DETECTOR_THREADS and, where that is not set, all cores.

    ranking: "random" is the paper's order, the rank in the hierarchy times a uniform random number (section
    4.4); "diverse" is that order, but boxes that overlap an earlier one by an IoU above 0.9 come after all
    others, which recalls more objects with the same number of boxes.

    Returns (R, 4) float32, R <= max_boxes, half-open, best first, no box twice. The same arguments give the
    same boxes, whatever the number of threads. Raises ValueError for anything but such an image, and for
    unknown modes. Code is compiled on the very first call, which is told on stderr.
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


def selective_search_many(
    images: Iterable[NDArray[np.uint8]],
    mode: str | Mode = "fast",
    max_boxes: int = 2000,
    seed: int = 0,
    *,
    ranking: str = "diverse",
    min_side: int = 20,
    threads: int | None = None,
) -> Iterator[Boxes]:
    """`selective_search` of many images, one a thread; yields in the order of `images`.

    `images` may be an iterator that reads images as they are asked for: no more than twice as many as there
    are threads are held at a time. Parameters and errors are those of `selective_search`.
    """
    n_threads = thread_count(threads)
    search = partial(
        selective_search, mode=mode, max_boxes=max_boxes, seed=seed, ranking=ranking, min_side=min_side, threads=1
    )
    waiting: deque[Future[Boxes]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        for image in images:
            waiting.append(pool.submit(search, image))
            if len(waiting) == 2 * n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _settings(mode: str | Mode) -> Mode:
    if isinstance(mode, Mode):
        return mode
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, but got {mode!r}")
    return MODES[mode]


class _Prepared(NamedTuple):
    """What all segmentations in one colour space share."""

    shape: tuple[int, int]
    graph: PixelGraph
    colours: NDArray[np.uint8]
    textures: Texels


def _prepare(image: NDArray[np.uint8], mode: Mode, colour_space: str) -> _Prepared:
    converted = convert_colours(image, colour_space)
    first = np.ascontiguousarray(converted[..., 0])
    return _Prepared(
        converted.shape[:2],
        pixel_graph(converted, mode.sigma),
        colour_bins(converted, mode.colour_bins),
        texels(first, mode.texture_sigma, mode.texture_bins, mode.max_gradient),
    )


def _groupings(image: _Prepared, mode: Mode, k: float) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Boxes of a segmentation and its groupings, and their ranks in the hierarchy, 1 for the last joined."""
    labels, n_regions = segment(image.graph, k, min_size=int(k))
    sizes, boxes = region_extents(labels.reshape(image.shape), n_regions)
    regions = Regions(
        sizes,
        boxes,
        neighbour_pairs(labels.reshape(image.shape), n_regions),
        colour_histograms(image.colours, mode.colour_bins, labels, sizes),
        texture_histograms(image.textures, labels, sizes),
    )
    joined = [group(regions, similarity) for similarity in mode.similarities]
    ranks = [np.arange(n_regions - 1, 0, -1)] * len(joined)
    return np.concatenate([*joined, boxes]), np.concatenate([*ranks, np.full(n_regions, n_regions)])


def _all_groupings(image: NDArray[np.uint8], mode: Mode, threads: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    # Large images go through one colour space after the other, to save memory; theirs is work enough for
    # all threads.
    n_at_once = len(mode.colour_spaces) if image.size < LARGE_IMAGE else 1
    found = []
    for start in range(0, len(mode.colour_spaces), n_at_once):
        colour_spaces = mode.colour_spaces[start : start + n_at_once]
        if threads > 1:
            found += _groupings_in_threads(image, mode, colour_spaces, threads)
        else:
            prepared = (_prepare(image, mode, colour_space) for colour_space in colour_spaces)
            found += [_groupings(each, mode, k) for each in prepared for k in mode.ks]
    return np.concatenate([boxes for boxes, _ in found]), np.concatenate([ranks for _, ranks in found])


def _groupings_in_threads(
    image: NDArray[np.uint8], mode: Mode, colour_spaces: tuple[str, ...], threads: int
) -> list[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    with ThreadPoolExecutor(threads) as pool:
        images = [pool.submit(_prepare, image, mode, colour_space) for colour_space in colour_spaces]
        # Whichever is ready first is segmented first; the order of the results is that of the mode.
        parts = {
            (images.index(ready), k): pool.submit(_groupings, ready.result(), mode, k)
            for ready in as_completed(images)
            for k in mode.ks
        }
        return [parts[index, k].result() for index in range(len(images)) for k in mode.ks]
