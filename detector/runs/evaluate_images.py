"""Detect in the images of a data set, on any engine, and match what is found; killed evaluations resume.

factory = EvaluatorFactory(load, dataset.class_names)
evaluated = detect_all(factory, detector, dataset, engine, state)
voc_result(evaluated.outcomes, metric)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.evaluation.coverage import Coverage, image_coverage, join_coverage
from detector.evaluation.outcomes import Outcomes, gather_outcomes, join_outcomes
from detector.parallel.map_images import EndRun, Engine, Failure, Threads, map_images
from detector.runs.evaluation_state import ImageResult, State
from detector.runtime.progress import Progress, no_progress, timings

if TYPE_CHECKING:
    from detector.ensemble import Ensemble
    from detector.features.cache import FeatureCache

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluatorFactory:
    """Load the model where the work is done, and return the function that evaluates an image.

    load: returns the model; to run in other processes it must be picklable.
    class_names: the classes to evaluate.
    thresholds: ``(K,)`` minimum scores of the model's classes; by default the recipe's.
    coverage: measure the coverage of the model's proposals.
    cache: directory of cached features. proposals: file of boxes to score instead of the model's proposals.
    """

    load: Callable[[], Ensemble]
    class_names: tuple[str, ...]
    thresholds: NDArray[np.float32] | None = None
    coverage: bool = False
    cache: Path | None = None
    proposals: Path | None = None

    def __call__(self) -> ImageEvaluator:
        from detector.proposals.sources import PrecomputedBoxes

        detector = self.load()
        boxes = None if self.proposals is None else PrecomputedBoxes(self.proposals)
        caches = [each.cache(self.cache, boxes) for each in detector.detectors] if self.cache else []
        return ImageEvaluator(self, detector, boxes, caches)


@dataclass(frozen=True)
class ImageEvaluator:
    """Detect in the image of an annotation and match what is found."""

    settings: EvaluatorFactory
    detector: Ensemble
    boxes: Mapping[str, Boxes] | None
    caches: Sequence[FeatureCache]

    def __call__(self, annotation: Annotation) -> tuple[ImageResult, Outcomes]:
        proposed = [as_boxes([])]
        with timings() as times:
            try:
                found = self._detect(annotation, proposed.append)
            except OSError as error:  # such as a full disk: the images were checked before
                raise EndRun(error) from error
            except ValueError as error:
                path = str(annotation.path)
                raise error if path in str(error) else ValueError(f"{path}: {error}") from error
        if self.settings.thresholds is not None:
            found = found.reaching(self.settings.thresholds)
        coverage = image_coverage(np.concatenate(proposed), annotation.boxes) if self.settings.coverage else None
        return ImageResult(found, coverage, times), gather_outcomes([found], [annotation], self.settings.class_names)

    def _detect(self, annotation: Annotation, record: Callable[[Boxes], None]) -> Detections:
        """Detect in the image of an annotation, and record the proposals of each of its views."""
        from detector.images.files import read_image
        from detector.scoring import detect_in_image

        if self.caches:
            return self.detector.detect_cached(self.caches, annotation, record)
        given = None if self.boxes is None else self.boxes[annotation.image_id]
        return detect_in_image(self.detector.detectors, read_image(annotation.path), given, record=record)


@dataclass
class Evaluated:
    """Results and outcomes of each image, in order.

    times: seconds by step, summed over ``n_timed`` images, which exclude those of an earlier run that was killed.
    """

    results: list[ImageResult] = field(default_factory=list)
    parts: list[Outcomes] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    n_timed: int = 0

    def add(self, result: ImageResult, outcomes: Outcomes) -> None:
        """Add the next image."""
        self.results.append(result)
        self.parts.append(outcomes)
        self.n_timed += bool(result.times)
        for name, seconds in result.times.items():
            self.times[name] = self.times.get(name, 0.0) + seconds

    @property
    def outcomes(self) -> Outcomes:
        """Outcomes of all images in one table."""
        return join_outcomes(self.parts)

    @property
    def detections(self) -> list[Detections]:
        """Detections of each image."""
        return [each.detections for each in self.results]

    @property
    def coverage(self) -> Coverage | None:
        """Coverage of the proposals, where it was measured."""
        parts = [each.coverage for each in self.results if each.coverage is not None]
        return join_coverage(parts) if len(parts) == len(self.results) > 0 else None


def detect_all(
    factory: EvaluatorFactory,
    detector: Ensemble,
    dataset: Dataset,
    engine: Engine = Threads(),  # noqa: B008 (a plain value)
    state: State | None = None,
    progress: Progress = no_progress,
    on_failure: Callable[[str], None] = _log.error,
) -> Evaluated:
    """Detect in every image on an engine, and match what is found.

    detector: the model of ``factory``, already loaded; used where the engine works in this process.
    state: results of an earlier run, which are not computed again, and the place to store new ones.
    on_failure: called with one line for an image that cannot be read; its objects count as missed.
    Raises ValueError when no image can be read.
    """
    stored = state.read() if state is not None else []
    if isinstance(engine, Threads):
        factory = replace(factory, load=lambda: detector)
    new = map_images(factory, dataset[len(stored) :], engine)
    evaluated, n_failed = Evaluated(), 0
    for row, annotation in enumerate(progress(dataset, "detect")):
        outcomes: Outcomes | None = None
        if row < len(stored):
            result = stored[row]
        else:
            _, value = next(new)
            if isinstance(value, Failure):
                nothing = Detections.empty(detector.class_names)
                result = ImageResult(nothing, image_coverage(as_boxes([]), annotation.boxes), failure=value.message)
            else:
                result, outcomes = value
            if state is not None:
                state.add(result)
        if result.failure is not None:
            on_failure(result.failure)
            n_failed += 1
        if outcomes is None:
            outcomes = gather_outcomes([result.detections], [annotation], factory.class_names)
        evaluated.add(result, outcomes)
    if n_failed == len(dataset):
        raise ValueError("none of the images could be read")
    return evaluated
