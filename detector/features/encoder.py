"""Image and boxes to features: convolution once per scale, best scale per box, pyramid pooling per box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes
from detector.features.backbones import Backbone
from detector.features.mapping import PAPER_MARGIN, PAPER_TARGET, boxes_to_cells, choose_scales
from detector.features.pooling import PAPER_LEVELS, n_bins, spatial_pyramid_pool
from detector.image import check_image, resize_short_side

Features = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureMaps:
    """Feature maps of one picture.

    ``maps`` holds one ``(h, w, C)`` array (float32, or float16 from a cache) per scale and ``zooms`` the resized
    over original size of each, both in ascending order of scale; ``image_size`` is (H, W) of the picture.
    """

    maps: tuple[NDArray[np.floating], ...]
    zooms: tuple[float, ...]
    image_size: tuple[int, int]


@dataclass(frozen=True)
class RegionEncoder:
    """Callable from an image and its boxes to features.

    ``short_sides`` are the lengths in pixels to which the shorter side of the picture is resized (paper, section
    4.1), ``levels`` the pyramid, ``margin`` the pixels by which a box is grown before its cells are looked up,
    ``target`` and ``scale_rule`` how a box finds its scale. ``normalise`` maps pooled ``(R, n_bins, C)`` values to
    values of the same shape.
    """

    backbone: Backbone
    short_sides: Sequence[int] = (688,)
    levels: Sequence[int] = PAPER_LEVELS
    margin: float = PAPER_MARGIN
    target: float = PAPER_TARGET
    scale_rule: str = "area"
    normalise: Callable[[Features], Features] = field(default=lambda pooled: pooled)

    def __post_init__(self) -> None:
        if not self.short_sides or min(self.short_sides) < 1 or list(self.short_sides) != sorted(self.short_sides):
            raise ValueError(f"short_sides must be positive and ascending, but are {tuple(self.short_sides)}")
        n_bins(self.levels)

    @property
    def n_features(self) -> int:
        """Length D of a feature row: bins times channels."""
        return n_bins(self.levels) * self.backbone.channels

    def maps(self, image: NDArray[np.uint8]) -> FeatureMaps:
        """Run the network once per scale on an ``(H, W, 3)`` uint8 RGB image."""
        image = check_image(image)
        maps, zooms = [], []
        for short_side in self.short_sides:
            resized, zoom = resize_short_side(image, short_side)
            # channels last: the pooling reads all channels of a cell together
            maps.append(np.ascontiguousarray(self.backbone(resized).permute(1, 2, 0).numpy(force=True)))
            zooms.append(zoom)
        return FeatureMaps(tuple(maps), tuple(zooms), (image.shape[0], image.shape[1]))

    def windows(self, maps: FeatureMaps, boxes: Boxes) -> NDArray[np.int64]:
        """Where ``(R, 4)`` boxes are read from: scale and cells, ``(R, 5)`` int64 ``scale x1 y1 x2 y2``."""
        scales = choose_scales(boxes, maps.zooms, self.target, self.scale_rule)
        geometry = self.backbone.geometry
        windows = np.empty((len(boxes), 5), np.int64)
        windows[:, 0] = scales
        for scale in np.unique(scales):
            rows = scales == scale
            windows[rows, 1:] = boxes_to_cells(
                boxes[rows],
                maps.zooms[scale],
                geometry.stride,
                geometry.offset,
                maps.maps[scale].shape[:2],
                self.margin,
            )
        return windows

    def pool(self, maps: FeatureMaps, windows: NDArray[np.int64]) -> Features:
        """Features ``(R, n_features)`` float32 of ``(R, 5)`` windows of `windows`; bins before channels in a row."""
        pooled = np.empty((len(windows), n_bins(self.levels), self.backbone.channels), np.float32)
        for scale in np.unique(windows[:, 0]):
            rows = windows[:, 0] == scale
            pooled[rows] = spatial_pyramid_pool(maps.maps[scale], windows[rows, 1:], self.levels)
        return self.normalise(pooled).reshape(len(windows), self.n_features)

    def __call__(self, image: NDArray[np.uint8], boxes: Boxes) -> Features:
        """Features ``(R, n_features)`` float32 of ``(R, 4)`` boxes of an ``(H, W, 3)`` uint8 RGB image."""
        maps = self.maps(image)
        return self.pool(maps, self.windows(maps, boxes))
