"""R-CNN's features with the interface of the encoder and the cache: each box is warped and convolved on its own.

A box is grown so that 16 px of context surround it in the warped image; pixels outside of the image have the mean
color (R-CNN, appendix A; release: rcnn_im_crop). The last map is max-pooled to 6 x 6 bins. On the 13 x 13 cells of ZF-5
and AlexNet, these are the release's windows of 3 x 3 cells at stride 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from detector.backbones.backbone import Backbone
from detector.backbones.torch_backbone import TorchBackbone
from detector.boxes import Boxes, as_boxes
from detector.features.cache import FeatureCache
from detector.features.encoder import FeatureMaps, Features, Regions
from detector.features.pooling import n_bins
from detector.images.files import read_image
from detector.runtime.array_files import Arrays, cached_arrays
from detector.runtime.files import fingerprint

if TYPE_CHECKING:
    from detector.tiles import Window

SIDE = 227
CONTEXT = 16
LEVELS = (6,)
MEAN = {"alexnet": (124, 116, 104), "zf5": (128, 128, 128), "efficientnet_lite0": (128, 128, 128)}
"""RGB that preprocessing maps to 0, rounded, by network."""
BATCH = 32


def warp(
    image: NDArray[np.uint8],
    box: NDArray[np.float32],
    fill: tuple[int, ...],
    context: int = CONTEXT,
    square: bool = False,
) -> NDArray[np.uint8]:
    """Return R-CNN's input ``(SIDE, SIDE, 3)`` uint8 for a box ``x1 y1 x2 y2`` of an image; ``fill`` is RGB.

    With ``square``, the square around the box is cropped, without distortion.
    """
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    half = np.full(2, half.max()) if square else half
    half = half * (SIDE / (SIDE - 2 * context))
    start, end = np.rint(middle - half).astype(int), np.rint(middle + half).astype(int)
    inner_start, inner_end = np.maximum(start, 0), np.minimum(end, image.shape[1::-1])
    zoom = SIDE / (end - start)
    left, top = np.rint((inner_start - start) * zoom).astype(int)
    right, bottom = np.rint((inner_end - start) * zoom).astype(int)
    inner = image[inner_start[1] : inner_end[1], inner_start[0] : inner_end[0]]
    warped = np.full((SIDE, SIDE, 3), fill, np.uint8)
    warped[top:bottom, left:right] = cv2.resize(inner, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    return warped


@dataclass(frozen=True)
class Rows(FeatureMaps):
    """Computed features: ``maps`` is one ``(R, D)`` array with a row for each of the ``(R, 4)`` ``boxes``."""

    boxes: Boxes


@dataclass(frozen=True)
class CropEncoder:
    """R-CNN's `Encoder`: one forward pass per box; a row holds the 36 bins of `LEVELS`, channels before bins.

    ``context`` and ``square`` are those of `warp`.
    """

    backbone: Backbone
    normalize: Callable[[Features], Features] = field(default=lambda pooled: pooled)
    context: int = CONTEXT
    square: bool = False
    short_sides: Sequence[int] = (SIDE,)
    levels: Sequence[int] = LEVELS

    @property
    def n_features(self) -> int:
        """Length D of a feature row."""
        return n_bins(self.levels) * self.backbone.channels

    def maps(self, image: NDArray[np.uint8], boxes: Boxes | None = None) -> Rows:
        """Return the features of the ``(R, 4)`` boxes, which must be given."""
        if boxes is None:
            raise ValueError("R-CNN needs boxes to convolve, but got none")
        fill = MEAN[self.backbone.name]
        rows = np.empty((len(boxes), self.n_features), np.float32)
        for start in range(0, len(boxes), BATCH):
            batch = slice(start, start + BATCH)
            crops = [warp(image, box, fill, self.context, self.square) for box in boxes[batch]]
            rows[batch] = self._convolve(np.stack(crops))
        return Rows((rows,), (1.0,), (image.shape[0], image.shape[1]), boxes)

    def _convolve(self, crops: NDArray[np.uint8]) -> Features:
        if not isinstance(self.backbone, TorchBackbone):
            maps = torch.from_numpy(np.stack([self.backbone.feature_map(crop) for crop in crops])).permute(0, 3, 1, 2)
            return F.adaptive_max_pool2d(maps, LEVELS[0]).flatten(1).numpy()
        # stacked to one tall image, to preprocess all at once
        pixels = self.backbone.preprocess(crops.reshape(-1, SIDE, 3))[0].permute(1, 2, 0)
        maps = self.backbone.forward(pixels.reshape(-1, SIDE, SIDE, 3).permute(0, 3, 1, 2))
        return F.adaptive_max_pool2d(maps, LEVELS[0]).flatten(1).float().numpy(force=True)

    def regions(self, maps: FeatureMaps, boxes: Boxes, scales: NDArray[np.int64] | None = None) -> Regions:
        """Return the row of each box, ``(R, 5)`` int64 ``row 0 0 0 0``. Raises ValueError for a box without features.

        There is one scale only.
        """
        assert isinstance(maps, Rows)
        row_of = {box.tobytes(): row for row, box in reversed(list(enumerate(maps.boxes)))}
        regions = np.zeros((len(boxes), 5), np.int64)
        try:
            regions[:, 0] = [row_of[box.tobytes()] for box in boxes]
        except KeyError as error:
            raise ValueError(f"no features of box {np.frombuffer(error.args[0], np.float32).tolist()}") from None
        return regions

    def with_levels(self, levels: Sequence[int]) -> CropEncoder:
        """Raise NotImplementedError: rows have one pyramid."""
        raise NotImplementedError("rows of R-CNN have one pyramid")

    def pool(self, maps: FeatureMaps, regions: Regions) -> Features:
        """Return the rows ``(R, n_features)`` float32 of regions."""
        return self.normalize(maps.maps[0][regions[:, 0]].astype(np.float32, copy=False))

    def apply(self, function: Callable[[Features], Features], maps: FeatureMaps, regions: Regions) -> Features:
        """Return ``function(pool(maps, regions))``."""
        return function(self.pool(maps, regions))

    def for_each_block(
        self, maps: FeatureMaps, regions: Regions, use: Callable[[NDArray[np.int64], Features], None]
    ) -> None:
        """Call ``use(rows, features)`` once, with all rows."""
        use(np.arange(len(regions)), self.pool(maps, regions))


@dataclass(frozen=True)
class CropCache(FeatureCache):
    """Rows of an image's ``ground_truth`` (boxes by image id) and proposals, float16, in one file per image."""

    ground_truth: Mapping[str, Boxes] = field(default_factory=dict)

    @property
    def maps_directory(self) -> Path:
        """Folder of the rows of this encoder and these proposals."""
        encoder = self.encoder
        assert isinstance(encoder, CropEncoder)
        backbone = encoder.backbone
        settings = {"digest": backbone.digest, "precision": backbone.precision, "side": SIDE}
        settings |= {"context": encoder.context, "square": encoder.square}
        return self.directory / f"crops-{fingerprint({**settings, **self.proposal_settings})}"

    def maps(self, image_id: str, path: Path, window: Window | None = None) -> Rows:
        """Return the rows of the image at ``path``, from the cache or computed and stored.

        Raises ValueError for a tile of an image.
        """
        if window is not None:
            raise ValueError(f"R-CNN's rows are those of whole images, but got the tile {window}")

        def compute() -> Arrays:
            boxes = np.concatenate([self.ground_truth[image_id], self.proposals(image_id, path)])
            rows = self.encoder.maps(read_image(path), boxes)
            size = np.asarray(rows.image_size, np.int64)
            return {"rows": rows.maps[0].astype(np.float16), "boxes": boxes, "image_size": size}

        arrays = cached_arrays(self.maps_directory / f"{image_id}.safetensors", compute)
        height, width = arrays["image_size"].tolist()
        return Rows(
            (arrays["rows"].astype(np.float16, copy=False),), (1.0,), (height, width), as_boxes(arrays["boxes"])
        )
