"""A trained classifier: images of any size to class probabilities, and its model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detector.backbones.torch_backbone import TorchBackbone, usable_precision
from detector.classification.network import Head, build_convolutions, build_head
from detector.classification.views import Image, Views, flipped, multi_sides, nine_crops, resize_squeezed, view_images
from detector.config.classifier import ClassifierConfig, parse_classifier_config
from detector.features.mapping import boxes_to_cells
from detector.images.resizing import check_image
from detector.model_file import BACKBONE, CLASSIFIER, ModelContents, read_model, write_model
from detector.runtime.array_files import Arrays

Scores = NDArray[np.float32]

BATCH_PIXELS = 32 * 224 * 224
"""Pixels of a batch, approximately."""

MAX_SIDE = 4096
"""Maximum of the shorter side of an image, in pixels."""

_EXCLUSIVE = "exclusive"


@dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    exclusive: an image has exactly one class, so that probabilities sum to 1; else they are independent.
    trained: tensors that training changed, by name, as in the model file.
    record: training data, date and results, as JSON-able values.
    """

    backbone: TorchBackbone
    head: Head
    class_names: tuple[str, ...]
    exclusive: bool
    config: ClassifierConfig
    trained: Arrays
    record: Mapping[str, Any] = field(default_factory=dict)

    def scores(self, images: Sequence[Image], views: Views | None = None, short_side: int | None = None) -> Scores:
        """Return probabilities ``(N, K)`` float32 of ``(H, W, 3)`` uint8 RGB images of any sizes.

        views: "whole", the image without distortion; "one", its central crop; "ten", crops at the corners and the
            center, and their mirror images; "multi", the crops at six scales of the paper's section 3.1.5, 96 of an
            image that is not square. None: "whole", or "one" without a pyramid.
        short_side: shorter side in pixels, before crops are taken; None: the recipe's.
        Probabilities of views are averaged; images and crops of one size are computed in one batch. Raises ValueError
        for images of other shapes and types, and for views that the classifier cannot take.
        """
        views = self.check_views(views, short_side)
        images = [check_image(image) for image in images]
        if not images:
            return np.empty((0, len(self.class_names)), np.float32)
        with torch.inference_mode():
            if views == "multi":
                return np.stack([self._multi_scores(image) for image in images])
            side, crop = short_side or self.config.images.short_side, self.config.images.crop
            return self._mean_scores([view_images(image, views, side, crop) for image in images])

    def check_views(self, views: Views | None, short_side: int | None) -> Views:
        """Return the views of `scores`; None is the default. Raises ValueError for views it cannot take."""
        flat, crop = self.config.network.pyramid is None, self.config.images.crop
        views = views or ("one" if flat else "whole")
        if flat and views in ("whole", "multi"):
            raise ValueError(
                f"a classifier without a pyramid takes {crop} x {crop} pixels: use views one or ten, not {views}"
            )
        if short_side is not None:
            if views == "multi":
                raise ValueError("views multi have fixed sizes; leave out the shorter side")
            min_side = 1 if views == "whole" else crop
            if not min_side <= short_side <= MAX_SIDE:
                raise ValueError(
                    f"the shorter side must be {min_side} to {MAX_SIDE} for views {views}, but is {short_side}"
                )
        return views

    def _mean_scores(self, views: Sequence[Sequence[Image]]) -> Scores:
        """Return means ``(N, K)`` over the views of each image."""
        by_size: dict[tuple[int, ...], list[tuple[int, Image]]] = {}
        for row, images in enumerate(views):
            for image in images:
                by_size.setdefault(image.shape, []).append((row, image))
        sums = np.zeros((len(views), len(self.class_names)), np.float32)
        for (height, width, _), members in by_size.items():
            step = max(1, BATCH_PIXELS // (height * width))
            for start in range(0, len(members), step):
                rows, images = zip(*members[start : start + step], strict=True)
                maps = self.backbone.maps(np.stack(images))
                np.add.at(sums, list(rows), self._probabilities(self.head(maps)))
        return sums / np.array([[len(images)] for images in views], np.float32).reshape(-1, 1)

    def _multi_scores(self, image: Image) -> Scores:
        """Return the mean ``(K,)`` over crops of the feature maps at all scales, mirrored ones included."""
        rows = []
        for side in multi_sides(self.config.images.crop):
            resized = resize_squeezed(image, side)
            height, width = resized.shape[:2]
            crops = nine_crops(height, width, self.config.images.crop)
            for view in (resized, flipped(resized)):
                maps = self.backbone(view)[None]
                geometry = self.backbone.geometry
                size = (maps.shape[2], maps.shape[3])
                cells = boxes_to_cells(crops, 1.0, geometry.stride, geometry.offset, size)
                rows += [self.head.pool(maps[:, :, y1:y2, x1:x2]) for x1, y1, x2, y2 in cells.tolist()]
        mean: Scores = self._probabilities(self.head.layers(torch.cat(rows))).mean(axis=0)
        return mean

    def _probabilities(self, logits: torch.Tensor) -> Scores:
        return (logits.softmax(1) if self.exclusive else logits.sigmoid()).numpy(force=True)

    def save(self, path: str | Path) -> None:
        """Write the model to one safetensors file, atomically; all weights of the backbone are inside."""
        tensors = {f"{BACKBONE}.{name}": array for name, array in self.backbone.tensors.items()}
        recipe, more = self.config.model_dump(mode="json"), {_EXCLUSIVE: self.exclusive}
        contents = ModelContents(
            {**tensors, **self.trained}, self.class_names, recipe, self.backbone.digest, self.record, more
        )
        write_model(path, CLASSIFIER, contents)

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Classifier:
        """Load a model file.

        Raises OSError for a file that cannot be read and ValueError, with its name, for one that is not a classifier or
        does not fit its backbone.
        """
        return read_model(path, CLASSIFIER, lambda contents: cls._compose(contents, device))

    @classmethod
    def _compose(cls, contents: ModelContents, device: str) -> Classifier:
        config = parse_classifier_config(contents.config, "its configuration")
        network, exclusive = config.network, contents.more[_EXCLUSIVE]
        if not isinstance(exclusive, bool):
            raise ValueError(f"{_EXCLUSIVE} must be true or false, but is {exclusive!r}")
        for name, array in contents.arrays.items():
            if array.dtype.kind != "f" and "num_batches_tracked" not in name:
                raise ValueError(f"{name} must hold floating-point numbers, but is {array.dtype}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite")
        state = _tensors(contents.under(BACKBONE))
        precision = usable_precision(network.precision, device)
        backbone = TorchBackbone(build_convolutions(network, state), device, precision if network.frozen else "float32")
        contents.check_backbone(network.backbone, backbone.digest)
        head = build_head(config, backbone.maps, len(contents.class_names))
        head.load_state_dict(_tensors(contents.under("head")))
        head = head.eval().to(device)
        return cls(backbone, head, contents.class_names, exclusive, config, contents.arrays, contents.record)


def _tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
