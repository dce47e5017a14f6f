"""Detect objects in many images, wherever the work runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detector.detections import Detections, percent
from detector.images.files import image_size, read_image
from detector.images.film import Frame
from detector.parallel.map_images import Engine, Failure, attempt, map_images
from detector.results.counts import Expected, expected_counts
from detector.runtime.files import is_stream
from detector.runtime.progress import timings
from detector.thresholds import TOO_WEAK, Thresholds

if TYPE_CHECKING:
    from detector.ensemble import Ensemble

_TRIED = 20
"""Number of first images, one of them readable, before a model is loaded."""


@dataclass(frozen=True)
class ImageDetections:
    """The detections of an image.

    image_size: height and width. class_names: those of the model. note: where nothing was found, the best box in words.
    times: seconds of each step. image: (H, W, 3) uint8 RGB, if it was to be kept.
    expected: `expected_counts` of all boxes, also those below the thresholds; None without a calibration.
    """

    detections: Detections
    image_size: tuple[int, int]
    class_names: tuple[str, ...]
    note: str
    times: Mapping[str, float]
    image: NDArray[np.uint8] | None = None
    expected: Expected | None = None

    def to_record(self, name: str) -> dict[str, Any]:
        """Return what JSON says about the image of that name."""
        height, width = self.image_size
        return {"image": name, "width": width, "height": height, "detections": self.detections.to_records()}


@dataclass(frozen=True)
class DetectorFactory:
    """Load the model where the work is done, and return the function that detects in an image.

    load: returns the model; to run in other processes it must be picklable.
    thresholds: returns the minimum scores ``(K,)`` of a model's classes, or None for its default.
    max_detections: of an image, instead of the recipe's. keep_image: return the images, too.
    counts: expected counts are needed; then a model without calibration raises ValueError.
    """

    load: Callable[[], Ensemble]
    thresholds: Callable[[Ensemble], Thresholds | None]
    max_detections: int | None = None
    keep_image: bool = False
    counts: bool = False

    def __call__(self) -> Callable[[str], ImageDetections]:
        model = self.load()
        if self.counts and model.calibration is None:
            raise ValueError("counts need one model with probabilities; `spp calibrate` adds them from labeled images")
        limits = self.thresholds(model)
        return partial(
            detect_image,
            model=model,
            thresholds=model.default_thresholds if limits is None else limits,
            max_detections=self.max_detections,
            keep_image=self.keep_image,
        )


def detect_image(
    name: str | Frame, model: Ensemble, thresholds: Thresholds, max_detections: int | None, keep_image: bool
) -> ImageDetections:
    """Detect the objects that reach the ``thresholds`` (K,) in the image of a path or URL, or in a frame of a film.

    Raises the errors of `read_image`, and ValueError for an image that is too narrow for the network.
    """
    settings = model.detectors[0].config.detection
    limit = settings.max_detections if max_detections is None else max_detections
    with timings() as times:
        image = name.image if isinstance(name, Frame) else read_image(name)
        # boxes below the thresholds, too: the best one is named where nothing is found
        lowest = min(float(thresholds.min()), settings.min_score)
        scored = model.detect(image, min_score=lowest, max_detections=max(limit, settings.max_detections))
    found = scored.reaching(thresholds).top(limit)
    note = "" if len(found) else describe_best(scored, thresholds, model)
    height, width = image.shape[:2]
    expected = expected_counts(scored.above(settings.min_score))
    kept = image if keep_image else None
    return ImageDetections(found, (height, width), model.class_names, note, times, kept, expected)


def describe_best(scored: Detections, thresholds: Thresholds, model: Ensemble) -> str:
    """Describe why nothing was found: the box that is nearest to the threshold ``(K,)`` of its class, if there is one.

    scored: all that reaches the recipe's ``min_score``.
    """
    if model.too_weak and np.array_equal(thresholds, model.default_thresholds):
        return TOO_WEAK
    if not len(scored):
        return f"no box scores {model.detectors[0].config.detection.min_score:g} or more"
    own = thresholds[scored.labels]
    best = int(np.argmin(own - scored.scores))
    line = f"the best box is {scored[best].class_name!r} with {scored[best].confidence}"
    if np.isinf(own[best]):
        return f"{line}; none of its class is kept"
    limit = f"{own[best]:.2f}"
    if model.calibration is not None:
        limit = percent(float(model.calibration.probabilities(own, scored.labels)[best]))
    return f"{line}, below the threshold of {limit}"


def detect_images(
    factory: Callable[[], Callable[[str], ImageDetections]], names: Iterable[str], engine: Engine
) -> Iterator[tuple[str, ImageDetections | Failure]]:
    """Yield each name with the detections of its image, in order; load no model where no image can be read."""
    iterator = iter(names)
    first: list[str] = []
    tried: list[Any] = []
    for name in islice(iterator, _TRIED):
        first.append(name)
        # a pipe can be read only once
        tried.append(None if is_stream(Path(name)) else attempt(image_size, name))
        if not isinstance(tried[-1], Failure):
            break
    if len(first) < _TRIED and all(isinstance(each, Failure) for each in tried):
        yield from zip(first, tried, strict=True)
    else:
        yield from map_images(factory, chain(first, iterator), engine)
