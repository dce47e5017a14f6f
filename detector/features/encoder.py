"""Image and boxes to features: convolution once per scale, best scale per box, pyramid pooling per box.

In between, a box is a *region*: the row ``scale x1 y1 x2 y2`` of an ``(R, 5)`` int64 array, which says on the map of
which scale it is read, and from which cells, half-open. Boxes of one region have the same features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detector.backbones.backbone import AnyBackbone
from detector.boxes import Boxes
from detector.features.mapping import PAPER_MARGIN, PAPER_TARGET, boxes_to_cells, choose_scales
from detector.features.pooling import BLOCK, PAPER_LEVELS, block_maxima, n_bins, pool_into
from detector.images.resizing import check_image, resize_short_side, resized_size
from detector.runtime.progress import stage
from detector.runtime.threads import in_threads, products_on_one_thread, thread_count


def signed_power(pooled: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """``sign(x) * |x| ** power`` of every value, float32; power 1 changes nothing, 1/2 is the signed square root."""
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

    ``maps`` holds one ``(h, w, C)`` array (float32, or float16 from a cache) per scale and ``zooms`` the resized
    over original size of each, both in ascending order of scale; ``image_size`` is (H, W) of the image. ``mirrored``
    are the maps of its mirror image, where they are needed.
    """

    maps: tuple[NDArray[np.floating], ...]
    zooms: tuple[float, ...]
    image_size: tuple[int, int]
    mirrored: FeatureMaps | None = field(default=None, kw_only=True)


class Encoder(Protocol):
    """What a detector, its training and the cache need of that which makes features of an image and its boxes.

    ``backbone`` is the network; ``short_sides`` and ``levels`` are the scales and the pyramid; ``n_features`` is the
    length D of a feature row.
    """

    @property
    def backbone(self) -> AnyBackbone: ...
    @property
    def short_sides(self) -> Sequence[int]: ...
    @property
    def levels(self) -> Sequence[int]: ...
    @property
    def n_features(self) -> int: ...

    def maps(self, image: NDArray[np.uint8], boxes: Boxes | None = None) -> FeatureMaps:
        """What the network makes of an ``(H, W, 3)`` uint8 RGB image, as far as ``(R, 4)`` boxes need it."""
        ...

    def regions(self, maps: FeatureMaps, boxes: Boxes, scales: NDArray[np.int64] | None = None) -> Regions:
        """Where ``(R, 4)`` boxes are read from, ``(R, 5)``; each at a given scale, ``(R,)`` int64, or at its best."""
        ...

    def with_levels(self, levels: Sequence[int]) -> Encoder:
        """The encoder of the same maps with another pyramid."""
        ...

    def pool(self, maps: FeatureMaps, regions: Regions) -> Features:
        """Features ``(R, n_features)`` float32 of ``(R, 5)`` regions."""
        ...

    def apply(self, function: Callable[[Features], Features], maps: FeatureMaps, regions: Regions) -> Features:
        """``function(pool(maps, regions))`` for a function of rows; ``(R, ...)``."""
        ...

    def for_each_block(
        self, maps: FeatureMaps, regions: Regions, use: Callable[[NDArray[np.int64], Features], None]
    ) -> None:
        """``use(rows, features)`` for blocks of ascending rows ``(n,)`` of the regions, together all of them."""
        ...


@dataclass(frozen=True)
class RegionEncoder:
    """The `Encoder` of SPP-net, and a callable from an image and its boxes to features.

    ``short_sides`` are the lengths in pixels to which the shorter side of the image is resized (paper, section
    4.1), ``levels`` the pyramid, ``margin`` the pixels by which a box is grown before its cells are looked up,
    ``target`` and ``scale_rule`` how a box finds its scale. ``normalize`` maps pooled ``(R, n_bins, C)`` values to
    values of the same shape.
    """

    backbone: AnyBackbone
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

        With ``boxes`` ``(R, 4)``, scales that none of them is read from are left out: their maps have no cells.
        """
        image = check_image(image)
        height, width = image.shape[:2]
        zooms = tuple(resized_size(height, width, short_side)[2] for short_side in self.short_sides)
        needed = range(len(zooms)) if boxes is None else np.unique(self._scales(boxes, zooms))
        maps = [np.empty((0, 0, self.backbone.channels), np.float32) for _ in zooms]
        for scale in needed:
            with stage(f"convolution at {self.short_sides[scale]}"):
                resized, _ = resize_short_side(image, self.short_sides[scale])
                maps[scale] = self.backbone.feature_map(resized)
        return FeatureMaps(tuple(maps), zooms, (height, width))

    def regions(self, maps: FeatureMaps, boxes: Boxes, scales: NDArray[np.int64] | None = None) -> Regions:
        """Where ``(R, 4)`` boxes are read from, ``(R, 5)`` int64 ``scale x1 y1 x2 y2``.

        Each is read at its scale, ``(R,)`` int64, if given, or else at its best one of those that were not left out.
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
        """The encoder of the same maps with another pyramid."""
        return replace(self, levels=levels)

    def pool(self, maps: FeatureMaps, regions: Regions) -> Features:
        """Features ``(R, n_features)`` float32 of ``(R, 5)`` regions; bins before channels in a row."""
        pooled = np.empty((len(regions), self.n_features), np.float32)
        self.for_each_block(maps, regions, pooled.__setitem__)
        return pooled

    def apply(self, function: Callable[[Features], Features], maps: FeatureMaps, regions: Regions) -> Features:
        """``function(pool(maps, regions))`` for a function of rows, a block of them at a time: ``(R, ...)``.

        Features are forgotten while they are in the processor's cache, so memory does not grow with their number.
        The function gets ``(n, n_features)`` float32, which it may overwrite, and is called from several threads.
        """
        example = function(np.empty((0, self.n_features), np.float32))
        results = np.empty((len(regions), *example.shape[1:]), example.dtype)
        self.for_each_block(maps, regions, lambda rows, features: results.__setitem__(rows, function(features)))
        return results

    def for_each_block(
        self, maps: FeatureMaps, regions: Regions, use: Callable[[NDArray[np.int64], Features], None]
    ) -> None:
        """``use(rows, features)`` for all ``(R, 5)`` regions: `apply` for what depends on which rows ``(n,)`` they are.

        Rows of a block ascend.
        """

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
        """Features ``(R, n_features)`` float32 of ``(R, 4)`` boxes of an ``(H, W, 3)`` uint8 RGB image."""
        maps = self.maps(image, boxes)
        return self.pool(maps, self.regions(maps, boxes))
