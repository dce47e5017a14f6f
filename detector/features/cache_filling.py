"""A cache filled with the features of many images, by this process or by workers that write to the same folder."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from detector.datasets.annotation import Annotation
from detector.features.feature_cache import FeatureCache
from detector.runtime.map_images import EndRun, Engine, Failure, Threads, map_images
from detector.runtime.progress import Progress, without_progress

_log = logging.getLogger(__name__)


def fill_cache(
    cache: FeatureCache,
    annotations: Iterable[Annotation],
    progress: Progress = without_progress,
    mirrored: bool = False,
    where: Where | None = None,
) -> list[Annotation]:
    """Compute what the cache lacks of the images, or of their mirror images; return those that could be read.

    The others are logged. Killed and started again, it goes on where it was. Several processes may fill one cache at a
    time; ``where`` is who does, if not this one. Raises ValueError when none could be read.
    """
    annotations = list(annotations)
    missing = [each for each in annotations if not cache.is_complete(each.image_id, mirrored)]
    unreadable: set[str] = set()
    # begin anywhere, or two processes would compute the same images side by side
    start = random.randrange(len(missing)) if missing else 0
    title = "features of mirror images" if mirrored else "features"
    missing = missing[start:] + missing[:start]
    where = where or Where(Threads(), lambda: cache)
    results = map_images(Filling(where.build, mirrored), missing, where.engine)
    for each, (_, error) in zip(progress(missing, title), results, strict=True):
        if error is not None:
            _log.warning("%s; going on without it", error.message if isinstance(error, Failure) else error)
            unreadable.add(each.image_id)
    readable = [each for each in annotations if each.image_id not in unreadable]
    if not readable:
        raise ValueError("none of the images could be read")
    return readable


@dataclass(frozen=True)
class Where:
    """Who fills a cache: an engine, whose workers each build it for themselves."""

    engine: Engine
    build: Callable[[], FeatureCache]


@dataclass(frozen=True)
class Filling:
    """Makes what computes the features that a cache lacks of an image, and tells why it cannot, if so."""

    build: Callable[[], FeatureCache]
    mirrored: bool

    def __call__(self) -> Callable[[Annotation], str | None]:
        """Build the cache."""
        cache = self.build()

        def fill(annotation: Annotation) -> str | None:
            image = annotation.image_id, annotation.path
            try:
                if not cache.is_complete(annotation.image_id, self.mirrored):
                    cache.proposals(*image)
                    (cache.mirrored_maps if self.mirrored else cache.maps)(*image)
            except ValueError as error:
                return str(error)
            except OSError as error:  # such as of a full disk
                raise EndRun(error) from error
            return None

        return fill
