"""Encode an image and its boxes: convolution once per scale, best scale per box, pyramid pooling per box.

In between, a box is a *region*, a row ``scale x1 y1 x2 y2`` of an ``(R, 5)`` int64 array: the scale whose map it is
pooled from, and its cells there, half-open. Boxes of one region have equal features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detector.backbones.backbone import Backbone
from detector.boxes import Boxes
from detector.features.mapping import PAPER_MARGIN, PAPER_TARGET, boxes_to_cells, choose_scales
from detector.features.pooling import BLOCK, PAPER_LEVELS, block_maxima, n_bins, pool_into
from detector.images.resizing import check_image, resize_short_side, resized_size
from detector.runtime.progress import timer
from detector.runtime.threads import in_threads, products_on_one_thread, thread_count


def signed_power(pooled: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """Return ``sign(x) * |x| ** power`` of every value, float32: power normalization; 1/2 is the signed square root."""
    if power == 1:
        return pooled
    magnitude = np.abs(pooled)
    np.sqrt(magnitude, out=magnitude) if power == 0.5 else np.power(magnitude, power, out=magnitude)
    return np.copysign(magnitude, pooled, out=magnitude)


Features = NDArray[np.float32]
Regions = NDArray[np.int64]


@dataclass(frozen=True)
class FeatureMaps:
    """Feature maps of one image.

    maps: one ``(h, w, C)`` array per scale, ascending; float32, or float16 from a cache.
    zooms: resized over original size of each scale.
    image_size: (H, W) of the image.
    """

    maps: tuple[NDArray[np.floating], ...]
    zooms: tuple[float, ...]
    image_size: tuple[int, int]


class Encoder(Protocol):
    """Encoder of an image and its boxes: SPP-net's `RegionEncoder`, or a peer such as R-CNN's crops.

    backbone: the network. short_sides, levels: scales and pyramid. n_features: length D of a feature row.
    """

    @property
    def backbone(self) -> Backbone: ...
    @property
    def short_sides(self) -> Sequence[int]: ...
    @property
    def levels(self) -> Sequence[int]: ...
    @property
    def n_features(self) -> int: ...

    def maps(self, image: NDArray[np.uint8], boxes: Boxes | None = None) -> FeatureMaps:
        """Run the network on an ``(H, W, 3)`` uint8 RGB image, at the scales that ``(R, 4)`` boxes need."""
        ...

    def regions(self, maps: FeatureMaps, boxes: Boxes, scales: NDArray[np.int64] | None = None) -> Regions:
        """Return the regions ``(R, 5)`` of ``(R, 4)`` boxes, at given scales ``(R,)`` int64 or at their best."""
        ...

    def with_levels(self, levels: Sequence[int]) -> Encoder:
        """Return an encoder of the same maps with another pyramid."""
        ...

    def pool(self, maps: FeatureMaps, regions: Regions) -> Features:
        """Pool ``(R, 5)`` regions into features ``(R, n_features)`` float32."""
        ...

    def apply(self, function: Callable[[Features], Features], maps: FeatureMaps, regions: Regions) -> Features:
        """Return ``function(pool(maps, regions))``, ``(R, ...)``, for a function of rows."""
        ...

    def for_each_block(
        self, maps: FeatureMaps, regions: Regions, use: Callable[[NDArray[np.int64], Features], None]
    ) -> None:
        """Call ``use(rows, features)`` for blocks of the regions: ascending rows ``(n,)``, together all of them."""
        ...


@dataclass(frozen=True)
class RegionEncoder:
    """Encoder of SPP-net; callable from an image and its boxes to features.

    short_sides: pixels to which the shorter side of the image is resized, ascending (paper, section 4.1).
    levels: of the pyramid. margin: pixels by which a box is grown before it is mapped to cells.
    target, scale_rule: of the best scale of a box; see `mapping.choose_scales`.
    normalize: maps pooled ``(R, n_bins, C)`` values to values of the same shape.
    """

    backbone: Backbone
    short_sides: Sequence[int] = (688,)
    levels: Sequence[int] = PAPER_LEVELS
    margin: float = PAPER_MARGIN
    target: float = PAPER_TARGET
    scale_rule: str = "area"
    normalize: Callable[[Features], Features] = field(default=lambda pooled: pooled)

    def __post_init__(self) -> None:
        if not self.short_sides or min(self.short_sides) < 1 or list(self.short_sides) != sorted(self.short_sides):
            raise ValueError(f"short_sides must be positive and ascending, but are {tuple(self.short_sides)}")
        n_bins(self.levels)

    @property
    def n_features(self) -> int:
        """Length D of a feature row: bins times channels."""
        return n_bins(self.levels) * self.backbone.channels

    def maps(self, image: NDArray[np.uint8], boxes: Boxes | None = None) -> FeatureMaps:
        """Run the network once per scale on an ``(H, W, 3)`` uint8 RGB image.

        With ``boxes`` ``(R, 4)``, scales that no box needs are skipped: their maps have no cells.
        """
        image = check_image(image)
        height, width = image.shape[:2]
        zooms = tuple(resized_size(height, width, short_side)[2] for short_side in self.short_sides)
        needed = range(len(zooms)) if boxes is None else np.unique(self._scales(boxes, zooms))
        maps = [np.empty((0, 0, self.backbone.channels), np.float32) for _ in zooms]
        for scale in needed:
            with timer(f"convolution at {self.short_sides[scale]}"):
                resized, _ = resize_short_side(image, self.short_sides[scale])
                maps[scale] = self.backbone.feature_map(resized)
        return FeatureMaps(tuple(maps), zooms, (height, width))

    def regions(self, maps: FeatureMaps, boxes: Boxes, scales: NDArray[np.int64] | None = None) -> Regions:
        """Return the regions ``(R, 5)`` int64 ``scale x1 y1 x2 y2`` of ``(R, 4)`` boxes.

        scales: ``(R,)`` int64; by default the best scale of each box among those that were computed.
        """
        if scales is None:
            scales = self._best_scales(maps, boxes)
        geometry = self.backbone.geometry
        regions = np.empty((len(boxes), 5), np.int64)
        regions[:, 0] = scales
        for scale in np.unique(scales):
            rows = scales == scale
            regions[rows, 1:] = boxes_to_cells(
                boxes[rows],
                maps.zooms[scale],
                geometry.stride,
                geometry.offset,
                maps.maps[scale].shape[:2],
                self.margin,
            )
        return regions

    def _best_scales(self, maps: FeatureMaps, boxes: Boxes) -> NDArray[np.int64]:
        if len(boxes) == 0:
            return np.zeros(0, np.int64)
        computed = np.flatnonzero([each.size for each in maps.maps])
        return computed[self._scales(boxes, [maps.zooms[scale] for scale in computed])]

    def _scales(self, boxes: Boxes, zooms: Sequence[float]) -> NDArray[np.int64]:
        return choose_scales(boxes, zooms, self.target, self.scale_rule)

    def with_levels(self, levels: Sequence[int]) -> RegionEncoder:
        """Return an encoder of the same maps with another pyramid."""
        return replace(self, levels=levels)

    def pool(self, maps: FeatureMaps, regions: Regions) -> Features:
        """Pool ``(R, 5)`` regions into features ``(R, n_features)`` float32; bins before channels in a row."""
        pooled = np.empty((len(regions), self.n_features), np.float32)
        self.for_each_block(maps, regions, pooled.__setitem__)
        return pooled

    def apply(self, function: Callable[[Features], Features], maps: FeatureMaps, regions: Regions) -> Features:
        """Return ``function(pool(maps, regions))``, ``(R, ...)``, for a function of rows, block by block.

        A block is dropped while it is still in the processor's cache, so memory does not grow with the boxes. The
        function gets ``(n, n_features)`` float32, which it may overwrite, and is called from several threads.
        """
        example = function(np.empty((0, self.n_features), np.float32))
        results = np.empty((len(regions), *example.shape[1:]), example.dtype)
        self.for_each_block(maps, regions, lambda rows, features: results.__setitem__(rows, function(features)))
        return results

    def for_each_block(
        self, maps: FeatureMaps, regions: Regions, use: Callable[[NDArray[np.int64], Features], None]
    ) -> None:
        """Call ``use(rows, features)`` for blocks of ``(R, 5)`` regions; the rows ``(n,)`` of a block ascend."""

        def work(rows: NDArray[np.int64]) -> None:
            pooled = np.empty((len(rows), n_bins(self.levels), self.backbone.channels), np.float32)
            pool_into(pooled, np.arange(len(rows)), maxima[regions[rows[0], 0]], regions[rows, 1:], self.levels)
            use(rows, self.normalize(pooled).reshape(len(rows), self.n_features))

        scales = np.unique(regions[:, 0])
        maxima = {scale: block_maxima(maps.maps[scale]) for scale in scales}
        blocks = []
        for scale in scales:
            rows = np.flatnonzero(regions[:, 0] == scale)
            blocks += np.split(rows, range(BLOCK, len(rows), BLOCK))
        with products_on_one_thread():
            in_threads(work, blocks, thread_count())

    def __call__(self, image: NDArray[np.uint8], boxes: Boxes) -> Features:
        """Return features ``(R, n_features)`` float32 of ``(R, 4)`` boxes of an ``(H, W, 3)`` uint8 RGB image."""
        maps = self.maps(image, boxes)
        return self.pool(maps, self.regions(maps, boxes))
