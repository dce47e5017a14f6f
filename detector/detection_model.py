"""Interface of one detector and of several together: what is shown by default, and detection in one or more images."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Unpack, cast, overload

import numpy as np

from detector.boxes import Boxes
from detector.detections import Detections
from detector.heads.calibration import Calibration
from detector.images.files import ImageLike
from detector.thresholds import TOO_WEAK, DetectionLimits, Limits, Thresholds, score_thresholds
from detector.tiles import Tiles

_log = logging.getLogger(__name__)


class DetectionModel(ABC):
    """One detector, or several whose scored boxes are suppressed together.

    class_names: names of the labels 0..K-1.
    """

    class_names: tuple[str, ...]

    @property
    @abstractmethod
    def calibration(self) -> Calibration | None:
        """Calibration of the scores, if the model has one."""

    @abstractmethod
    def detect_one(
        self, image: ImageLike, boxes: Boxes | None, thresholds: Thresholds, max_detections: int | None
    ) -> Detections:
        """Detect the objects of one image that reach the thresholds ``(K,)``; other arguments as in `detect`."""

    @abstractmethod
    def with_tiles(self, tiles: Tiles) -> DetectionModel:
        """Return a copy that also detects in tiles of images; see `parse_tiles`. 1: in the whole image alone."""

    @property
    def default_thresholds(self) -> Thresholds:
        """Minimum scores ``(K,)`` float32 of the detections shown by default; see `detector.thresholds`.

        0 for a model without calibration.
        """
        return self.thresholds()

    @property
    def too_weak(self) -> bool:
        """True for a calibrated model that shows nothing by default."""
        return bool(np.isposinf(self.default_thresholds).all())

    def thresholds(self, **limits: Unpack[Limits]) -> Thresholds:
        """Return the minimum scores ``(K,)`` float32 of the classes; see `score_thresholds`."""
        return score_thresholds(self.calibration, self.class_names, **limits)

    @overload
    def detect(  # type: ignore[overload-overlap]  # a string is a sequence of strings, too
        self, image: ImageLike, boxes: Boxes | None = None, **limits: Unpack[DetectionLimits]
    ) -> Detections: ...

    @overload
    def detect(
        self, image: Sequence[ImageLike], boxes: None = None, **limits: Unpack[DetectionLimits]
    ) -> list[Detections]: ...

    def detect(
        self,
        image: ImageLike | Sequence[ImageLike],
        boxes: Boxes | None = None,
        *,
        min_score: float | None = None,
        min_probability: float | None = None,
        precision: float | None = None,
        classes: Collection[str] | None = None,
        max_detections: int | None = None,
        tiles: Tiles | None = None,
    ) -> Detections | list[Detections]:
        """Detect the objects of an image, best first; of a list of images, return a list.

        image: a path or URL, the bytes of an image file, a binary file object, a PIL image, or an ``(H, W, 3)`` uint8
            RGB array; or a list or tuple of these.
        boxes: ``(R, 4)`` float32 in pixels of a single image, instead of proposals. Those outside of it are left out.
        min_score, min_probability, precision: at most one, instead of ``default_thresholds``; see `score_thresholds`.
        classes: names of the classes to detect, by default all.
        max_detections: instead of the recipe's.
        tiles: overlapping tiles in which small objects are searched, too: a number, the size "640x480" of one, or
            "auto"; instead of the model's, which has none unless it was trained with tiles. 1: none.
        Raises the errors of `score_thresholds` and of `as_image`.
        """
        if max_detections is not None and max_detections < 1:
            raise ValueError(f"max_detections must be at least 1, but is {max_detections}")
        thresholds = self.thresholds(
            min_score=min_score, min_probability=min_probability, precision=precision, classes=classes
        )
        if min_score is min_probability is precision is None and self.too_weak:
            _log.warning(TOO_WEAK)
        model = self if tiles is None else self.with_tiles(tiles)
        if not isinstance(image, list | tuple):
            return model.detect_one(cast(ImageLike, image), boxes, thresholds, max_detections)
        if boxes is not None:
            raise ValueError("boxes are those of one image: detect in one image at a time")
        return [model.detect_one(each, None, thresholds, max_detections) for each in image]
