"""Work behind the page, in small steps by urgency: features, rounds of training, suggestions, quality, what is next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.build import build_cache
from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.heads.calibration import Calibration
from detector.images.files import image_size
from detector.pipeline import Detector
from detector.runs.held_out_report import report_held_out
from detector.runs.next_images import image_features, select, uncertainty
from detector.teaching.labels import NOTHING, ImageLabels
from detector.teaching.learner import Learner
from detector.teaching.project import ProjectImage
from detector.teaching.quality import Quality, cross_validate_stepwise
from detector.teaching.recipe import teaching_recipe
from detector.teaching.similarity import BoxIndex, Match
from detector.training.calibration import with_calibration
from detector.training.svm.training import TrainedSVMs

N_NEXT = 5
MAX_SUGGESTIONS = 60
MAX_MATCHES = 60
_MAX_SIZES = 50  # headers read for the recipe
_START_SCORE = -0.5
"""Minimum score of suggestions before the first calibration: a box too many costs less than one too few."""


class Snapshot(NamedTuple):
    """All labels, by the number of their image, and the names of the classes."""

    labels: Mapping[int, ImageLabels]
    class_names: tuple[str, ...]

    def done(self) -> dict[int, ImageLabels]:
        """Return the labels of the finished images."""
        return {image: each for image, each in self.labels.items() if each.done}


class Event(NamedTuple):
    """A result of the work. kind: "features", "failed", "suggestions", "round", "quality" or "next"."""

    kind: str
    image: int | None
    content: Any


class TeachingSession:
    """Learner of a project's images; ``report`` receives what it finds.

    images: the project's. features: folder of the cache.
    """

    def __init__(self, images: Sequence[ProjectImage], features: Path, report: Callable[[Event], None]) -> None:
        self.images, self._report = images, report
        config = teaching_recipe(_sizes(images))
        self.learner = Learner(build_cache(config, features), config)
        self.index = BoxIndex(self.learner.cache.encoder)
        self.detector: Detector | None = None
        self._snapshot = self._learned = Snapshot({}, ())
        self._focus = 0
        self._next: list[int] = []
        self._failed: set[int] = set()
        self._described: dict[int, NDArray[np.float32]] = {}
        self._round = 0
        self._suggested: dict[int, int] = {}  # round of the suggestions of each image
        self._uncertainty: dict[int, float] = {}
        self._trained: TrainedSVMs | None = None
        self._calibration: tuple[tuple[str, ...], Calibration] | None = None
        self._measuring: Iterator[Quality | None] | None = None
        self._measured = 0  # round that was measured last
        self._quality: Quality | None = None
        self._ranked: tuple[int, ...] = ()

    def label(self, snapshot: Snapshot) -> None:
        """Take the labels as they are now."""
        self._snapshot = snapshot

    def look(self, image: int) -> None:
        """Take the image that is in view: work on it goes first."""
        self._focus = image

    def step(self) -> bool:
        """Do one piece of the most urgent work, at most some seconds long; return False if there is none."""
        return (
            self._compute(self._focus)
            or self._learn()
            or self._suggest(self._focus)
            or any(self._compute(image) or self._suggest(image) for image in self._upcoming())
            or self._rank()
            or self._measure()
            or any(self._compute(image) for image in range(len(self.images)))
            or self._suggest_any()
        )

    def similar(self, image: int, corners: tuple[float, ...]) -> list[Match]:
        """Return the boxes of other images that are most like a box; safe to call from another thread."""
        if image in self._failed:
            return []
        found = self.index.search(self.learner.cache.maps(*self._key(image)), corners)
        return [each for each in found if each.image != image][:MAX_MATCHES]

    def save(self, path: Path) -> None:
        """Write the detector of the last round. Raises ValueError where there is none yet, OSError."""
        if self.detector is None:
            raise ValueError("there is no model yet: finish an image with boxes first")
        self.detector.save(path)

    def write_report(self, folder: Path) -> None:
        """Write the report of the last cross-validation to ``folder``.

        Raises ValueError where there is none yet and where packages are missing, OSError.
        """
        quality = self._quality
        if quality is None or quality.held_out is None:
            raise ValueError("nothing is measured yet: finish two images with boxes of the same class first")
        images = quality.held_out.dataset(quality.detector.class_names)
        detector = with_calibration(quality.detector, quality.calibration)
        report_held_out(
            folder.parent, detector, self.learner.cache, images, quality.held_out.detections, explained=False
        )
        if not (folder / "report.html").is_file():
            raise ValueError("a report needs more packages: pip install 'spp-detector[report]'")

    # ---- features

    def _compute(self, image: int) -> bool:
        """Compute the features of an image; return False if that is done already."""
        if image in self.index or image in self._failed:
            return False
        try:
            maps = self.learner.cache.maps(*self._key(image))
            boxes = self.learner.cache.proposals(*self._key(image))
        except (ValueError, OSError) as error:
            self._failed.add(image)
            self._report(Event("failed", image, str(error)))
            return True
        self.index.add(image, maps, boxes)
        self._described[image] = image_features(maps)
        self._report(Event("features", image, np.rint(boxes).astype(np.int32).tobytes()))
        return True

    def _key(self, image: int) -> tuple[str, Path]:
        return self.images[image].name, self.images[image].path

    # ---- rounds

    def _learn(self) -> bool:
        snapshot = self._snapshot
        if snapshot is self._learned:
            return False
        done = {image: each for image, each in snapshot.done().items() if image not in self._failed}
        if any(self._compute(image) for image in done):
            return True  # one image in a step
        same = done == self._learned.done() and snapshot.class_names == self._learned.class_names
        if same or not (done or self._round):
            self._learned = snapshot
            return False
        start = monotonic()
        self._learned = snapshot
        used = {box.class_name for each in done.values() for box in each.boxes}
        names = tuple(name for name in snapshot.class_names if name in used)
        self._trained = self.learner.learn([self._annotation(*each, names) for each in done.items()], names)
        self._round += 1
        self.detector = None if self._trained is None else self._with_calibration(self.learner.detector(self._trained))
        content = {
            "round": self._round,
            "seconds": round(monotonic() - start, 3),
            "images": len(done),
            "objects": sum(len(each.boxes) for each in done.values()),
        }
        self._report(Event("round", None, content))
        return True

    def _annotation(self, image: int, labels: ImageLabels, names: Sequence[str]) -> Annotation:
        return labels.to_annotation(*self._key(image), names)

    def _with_calibration(self, detector: Detector) -> Detector:
        """Return the detector with the last calibration, if it is of the same classes."""
        if self._calibration is None or self._calibration[0] != detector.class_names:
            return detector
        return with_calibration(detector, self._calibration[1])

    # ---- suggestions, and what is next

    def _upcoming(self) -> list[int]:
        return [image for image in self._next if not self._labels(image).done]

    def _labels(self, image: int) -> ImageLabels:
        return self._snapshot.labels.get(image, NOTHING)

    def _suggest(self, image: int) -> bool:
        """Detect in an image by the present model; return False if that is done already."""
        if self.detector is None or image not in self.index or self._suggested.get(image) == self._round:
            return False
        found = self.detector.detect_cached(self.learner.cache, self._annotation(image, NOTHING, ()))
        self._uncertainty[image] = uncertainty(found)
        self._suggested[image] = self._round
        records = self._confident(self.detector, found).to_records()
        self._report(Event("suggestions", image, {"round": self._round, "boxes": records[:MAX_SUGGESTIONS]}))
        return True

    def _confident(self, detector: Detector, found: Detections) -> Detections:
        if detector.calibration is None:
            return found.above(_START_SCORE)
        return found.reaching(np.minimum(detector.calibration.best_f1, 0))

    def _suggest_any(self) -> bool:
        """Suggest in the image whose suggestions are oldest; images labeled already come in last."""
        stale = [image for image in self._described if self._suggested.get(image) != self._round]
        if self.detector is None or not stale:
            return False
        return self._suggest(min(stale, key=lambda each: (self._labels(each).done, self._suggested.get(each, 0))))

    def _rank(self) -> bool:
        """Rank the images to label next; return False if nothing has changed since."""
        open_images = [image for image in self._described if not self._labels(image).done]
        state = (self._round, len(open_images), *(sorted(self._learned.done())))
        if state == self._ranked or not open_images:
            return False
        self._ranked = state
        uncertainties = np.array([self._uncertainty.get(image, 1.0) for image in open_images])
        features = np.stack([self._described[image] for image in open_images])
        self._next = [open_images[row] for row in select(uncertainties + 1e-3, features, N_NEXT)]
        self._report(Event("next", None, self._next))
        return True

    # ---- quality

    def _measure(self) -> bool:
        """Take one step of the cross-validation of the last round; return False if that is finished."""
        if self._measuring is None:
            if self._trained is None or self.detector is None or self._measured == self._round:
                return False
            self._measured = self._round
            self._measuring = cross_validate_stepwise(self.detector, self._trained, self.learner.cache)
        quality = next(self._measuring, None)
        if isinstance(quality, Quality):
            self._measuring = None
            self._take(quality)
        return True

    def _take(self, quality: Quality) -> None:
        if not quality.report:
            return
        number_of = {each.name: number for number, each in enumerate(self.images)}
        doubts = [{**each, "image": number_of[each.pop("image_id")]} for each in quality.report["doubts"]]
        self._report(Event("quality", None, {**quality.report, "doubts": doubts}))
        self._quality = quality
        if self.detector is not None and quality.calibration is not None:
            self._calibration = quality.detector.class_names, quality.calibration
            self.detector = self._with_calibration(self.detector)


def _sizes(images: Sequence[ProjectImage]) -> list[tuple[int, int]]:
    """Return the sizes of evenly spaced images; those that cannot be read are left out."""
    sizes = []
    for row in np.unique(np.linspace(0, len(images) - 1, _MAX_SIZES).astype(int)).tolist():
        try:
            sizes.append(image_size(images[row].path))
        except (ValueError, OSError):  # reported where its features are computed
            continue
    return sizes
