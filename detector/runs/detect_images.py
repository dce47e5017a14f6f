"""Detection in one image after the other, wherever it runs: what a worker does, and what it gives back."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detector.cli.thresholds import default_thresholds, thresholds
from detector.detections import Detections
from detector.parallel.map_images import Engine, Failure, attempt, map_images
from detector.runtime.progress import stage_times

if TYPE_CHECKING:
    from detector.ensemble import Ensemble

_TRIED = 20
"""Images of which one must be readable for a model to be loaded, where there are no more."""


@dataclass(frozen=True)
class Found:
    """What is found in an image, and told of it.

    image_size: height and width. class_names: of the model. note: where nothing was found, what came nearest.
    times: seconds by stage. image: (H, W, 3) uint8 RGB, where whoever asked is in the same process.
    """

    detections: Detections
    image_size: tuple[int, int]
    class_names: tuple[str, ...]
    note: str
    times: Mapping[str, float]
    image: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Detecting:
    """Makes what finds objects in the image of a name, by the options of the command; ``keep_image`` in `Found`."""

    options: Namespace
    keep_image: bool = False

    def __call__(self) -> Detect:
        """Load the model."""
        from detector.ensemble import load_ensemble

        options = self.options
        detector = load_ensemble(options.model, options.device, options.weights, options.mirror, options.runtime)
        least = thresholds(options, detector)
        least = default_thresholds(detector) if least is None else least
        return Detect(detector, least, options.max_detections, self.keep_image)


@dataclass(frozen=True)
class Detect:
    """Objects in images that reach the thresholds ``least`` ``(K,)``."""

    detector: Ensemble
    least: NDArray[np.float32]
    max_detections: int | None
    keep_image: bool

    def __call__(self, name: str) -> Found:
        """Those in the image of a path or an address; the errors of `read_image`."""
        from detector.images.files import read_image

        with stage_times() as times:
            image = read_image(name)
            try:
                found, note = self.detect(image)
            except (ValueError, OSError) as error:  # such as an image too narrow for the network
                raise error if name in str(error) else ValueError(f"{name}: {error}") from error
        height, width = image.shape[:2]
        return Found(found, (height, width), self.detector.class_names, note, times, image if self.keep_image else None)

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detections, str]:
        """Objects that reach the thresholds; where there are none, how far below the best box is."""
        settings = self.detector.detectors[0].settings
        low, most = settings.limits(None, self.max_detections)
        every = self.detector.detect(image, None, min(float(self.least.min()), low), max(most, settings.max_detections))
        found = every.reaching(self.least).top(most)
        return found, "" if len(found) else nearest(every, self.least, low)


def nearest(every: Detections, least: NDArray[np.float32], low: float) -> str:
    """The box that comes nearest to the threshold of its class, in words; ``low`` is the least score looked at."""
    if not len(every):
        return f"no box scores {low:g} or more"
    gaps = least[every.labels] - every.scores
    best = int(np.argmin(gaps))
    name, score = every.class_names[every.labels[best]], every.scores[best]
    if np.isinf(gaps[best]):
        return f"the best box is {name!r} with a score of {score:.2f}, of which nothing is kept"
    return f"the best box is {name!r} with a score of {score:.2f}, {gaps[best]:.2f} below the threshold"


def detections(detecting: Detecting, names: Iterable[str], engine: Engine) -> Iterator[tuple[str, Found | Failure]]:
    """What is found in every image, in order; no model is loaded where none of the first images can be read."""
    from detector.images.files import image_size

    iterator = iter(names)
    first: list[str] = []
    tried: list[Any] = []
    for name in islice(iterator, _TRIED):
        first.append(name)
        tried.append(attempt(image_size, name))
        if not isinstance(tried[-1], Failure):
            break
    if len(first) < _TRIED and all(isinstance(each, Failure) for each in tried):
        yield from zip(first, tried, strict=True)
    else:
        yield from map_images(detecting, chain(first, iterator), engine)


def record_of(name: str, found: Found) -> dict[str, Any]:
    """What JSON says of an image."""
    height, width = found.image_size
    return {"image": name, "width": width, "height": height, "detections": found.detections.to_records()}
