"""What a report tells of detecting, next to what was detected: what proposals cover."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.datasets.dataset import Annotation
from detector.evaluation.coverage import Coverage, cover, gather_coverage

if TYPE_CHECKING:
    from detector.build import Proposer
    from detector.ensemble import Ensemble
    from detector.features.cache import FeatureCache


class Recorder(threading.local):
    """Proposes what ``propose`` does, and keeps the boxes of the last image of this thread."""

    def __init__(self, propose: Proposer) -> None:
        self.propose = propose
        self.boxes = as_boxes([])

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        self.boxes = self.propose(image)
        return self.boxes


class Cover(NamedTuple):
    """best: what the proposals of an image cover, as of `coverage.cover`. n_proposals: how many there are."""

    best: NDArray[np.float32]
    n_proposals: int


@dataclass(frozen=True)
class Watch:
    """A detector whose proposals are watched; recorders: one for all of its detectors that propose alike."""

    detector: Ensemble
    recorders: Sequence[Recorder]

    @classmethod
    def over(cls, detector: Ensemble) -> Watch:
        """Watch the proposers of a detector."""
        from detector.build import proposer_key

        by_key: dict[Any, Recorder] = {}
        for each in detector.detectors:
            by_key.setdefault(proposer_key(each.propose), Recorder(each.propose))
        watched = [replace(each, propose=by_key[proposer_key(each.propose)]) for each in detector.detectors]
        return cls(replace(detector, detectors=watched), [*by_key.values()])

    def see(self, annotation: Annotation, caches: Sequence[FeatureCache]) -> Cover:
        """What the proposals of an image cover that was just detected in, with or without caches."""
        proposed = [cache.proposals(annotation.image_id, annotation.path) for cache in caches]
        return _cover(annotation, proposed or [each.boxes for each in self.recorders])


def unseen(annotation: Annotation) -> Cover:
    """Of an image without proposals, which could not be read."""
    return _cover(annotation, [])


def coverage_of(covers: Sequence[Cover]) -> Coverage:
    """Of all images."""
    return gather_coverage([each.best for each in covers], [each.n_proposals for each in covers])


def _cover(annotation: Annotation, proposed: Sequence[Boxes]) -> Cover:
    boxes = np.concatenate([as_boxes([]), *proposed]).astype(np.float32)
    return Cover(cover(boxes, annotation.boxes), len(boxes))
