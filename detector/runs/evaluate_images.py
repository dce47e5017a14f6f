"""Detection in the images of a data set, wherever it runs: what a worker does, and what a run keeps of it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes
from detector.cli.console import progress, report
from detector.cli.options import precomputed_boxes
from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.evaluation.coverage import Coverage
from detector.evaluation.image_matching import Matches, match_image
from detector.parallel.map_images import EndRun, Engine, Failure, Threads, map_images
from detector.runs.coverage import Watch, coverage_of, unseen
from detector.runs.evaluation_state import Seen, State
from detector.runtime.progress import stage_times

if TYPE_CHECKING:
    from detector.ensemble import Ensemble
    from detector.features.cache import FeatureCache


@dataclass(frozen=True)
class Evaluating:
    """Makes what detects in the image of an annotation and matches what is found.

    least: ``(K,)`` thresholds of the detector's classes, if any. class_names: those to evaluate. watched: tell what
    proposals cover. detector: one that is loaded already, where the work is done in this process.
    """

    options: Namespace
    least: NDArray[np.float32] | None
    class_names: tuple[str, ...]
    watched: bool = False
    detector: Ensemble | None = None

    def __call__(self) -> Callable[[Annotation], tuple[Seen, Matches]]:
        """Load the model."""
        from detector.ensemble import load_ensemble

        options, detector = self.options, self.detector
        if detector is None:
            detector = load_ensemble(options.model, options.device, options.weights, options.mirror, options.runtime)
        boxes = precomputed_boxes(options.proposals)
        caches = [each.cache(options.cache, boxes) for each in detector.detectors] if options.cache else []
        watch = Watch.over(detector) if self.watched else None
        return _Evaluate(self, detector if watch is None else watch.detector, boxes, caches, watch)


@dataclass(frozen=True)
class _Evaluate:
    settings: Evaluating
    detector: Ensemble
    boxes: Any
    caches: Sequence[FeatureCache]
    watch: Watch | None

    def __call__(self, annotation: Annotation) -> tuple[Seen, Matches]:
        from detector.images.files import read_image

        with stage_times() as times:
            try:
                if self.caches:
                    found = self.detector.detect_cached(self.caches, annotation)
                else:
                    given: Boxes | None = None if self.boxes is None else self.boxes[annotation.image_id]
                    found = self.detector.detect(read_image(annotation.path), given)
            except OSError as error:  # such as of a full disk: the data were checked
                raise EndRun(error) from error
            except ValueError as error:
                path = str(annotation.path)
                raise error if path in str(error) else ValueError(f"{path}: {error}") from error
        if self.settings.least is not None:
            found = found.reaching(self.settings.least)
        cover = None if self.watch is None else self.watch.see(annotation, self.caches)
        return Seen(found, cover, times), match_image(found, annotation, self.settings.class_names)


@dataclass
class Evaluated:
    """What came of all images, in their order.

    matches: of each. seen: what was found in each, and more of it, where that is asked for. times: seconds by stage, of
    ``n_timed`` images together: those of an earlier run that was killed are not among them.
    """

    matches: list[Matches] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    n_timed: int = 0

    def add(self, seen: Seen, matches: Matches, keep: bool) -> None:
        """The next image."""
        self.matches.append(matches)
        if keep:
            self.seen.append(seen)
        self.n_timed += bool(seen.times)
        for name, seconds in seen.times.items():
            self.times[name] = self.times.get(name, 0.0) + seconds

    @property
    def found(self) -> list[Detections]:
        """What was found in each image."""
        return [each.detections for each in self.seen]

    @property
    def coverage(self) -> Coverage | None:
        """What proposals cover, where that was watched."""
        covers = [each.cover for each in self.seen if each.cover is not None]
        return coverage_of(covers) if len(covers) == len(self.seen) > 0 else None


def detect_all(
    evaluating: Evaluating,
    detector: Ensemble,
    dataset: Dataset,
    engine: Engine = Threads(),  # noqa: B008 (a plain value)
    state: State | None = None,
    keep: bool = True,
) -> Evaluated:
    """Detections in every image by the engine, and whether they are true.

    An image that cannot be read is reported, and its objects count as missed; ValueError when none could be. What is in
    the ``state`` is not done again. Without ``keep``, nothing is kept of what was found but whether it is true.
    """
    there = state.read() if state is not None else []
    if isinstance(engine, Threads):
        evaluating = replace(evaluating, detector=detector)
    results = map_images(evaluating, dataset[len(there) :], engine)
    evaluated, n_unreadable = Evaluated(), 0
    for row, annotation in enumerate(progress(dataset, "detect")):
        seen, matches = (there[row], None) if row < len(there) else _taken(next(results)[1], detector, annotation)
        if seen.failure is not None:
            report(ValueError(seen.failure))
            n_unreadable += 1
        if state is not None and row >= len(there):
            state.add(seen)
        evaluated.add(seen, matches or match_image(seen.detections, annotation, evaluating.class_names), keep)
    if n_unreadable == len(dataset):
        raise ValueError("none of the images could be read")
    return evaluated


def _taken(result: Any, detector: Ensemble, annotation: Annotation) -> tuple[Seen, Matches | None]:
    if isinstance(result, Failure):
        none = Detections.empty(detector.class_names)
        return Seen(none, unseen(annotation), failure=result.message), None
    seen, matches = result
    return seen, matches
