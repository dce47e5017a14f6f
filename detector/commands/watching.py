"""What a report tells of detecting, next to what was detected: proposals, and time by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.datasets.annotation import Annotation
from detector.evaluation.coverage import Coverage, cover, gather_coverage

if TYPE_CHECKING:
    from detector.ensemble import Ensemble
    from detector.features.feature_cache import FeatureCache
    from detector.stages import Proposer


class Recorder:
    """Proposes what ``propose`` does, and keeps the boxes of the last image."""

    def __init__(self, propose: Proposer) -> None:
        self.propose = propose
        self.boxes = as_boxes([])

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        self.boxes = self.propose(image)
        return self.boxes


@dataclass
class Watch:
    """Proposals of one image after the other.

    recorders: one for all detectors that propose alike. covers: what proposals cover, and how many there are, by image.
    """

    recorders: list[Recorder] = field(default_factory=list)
    covers: list[tuple[NDArray[np.float32], int]] = field(default_factory=list)

    def over(self, detector: Ensemble) -> Ensemble:
        """The detector, with its proposers watched."""
        from detector.stages import proposer_key

        by_key: dict[Any, Recorder] = {}
        for each in detector.detectors:
            by_key.setdefault(proposer_key(each.propose), Recorder(each.propose))
        self.recorders = list(by_key.values())
        watched = [replace(each, propose=by_key[proposer_key(each.propose)]) for each in detector.detectors]
        return replace(detector, detectors=watched)

    def see(self, annotation: Annotation, caches: Sequence[FeatureCache]) -> None:
        """Note what the proposals of an image cover that was just detected in, with or without caches."""
        proposed = [cache.proposals(annotation.image_id, annotation.path) for cache in caches]
        self._note(annotation, proposed or [each.boxes for each in self.recorders])

    def skip(self, annotation: Annotation) -> None:
        """Note an image without proposals, which could not be read."""
        self._note(annotation, [])

    def coverage(self) -> Coverage:
        """Of all images."""
        return gather_coverage([each for each, _ in self.covers], [count for _, count in self.covers])

    def _note(self, annotation: Annotation, proposed: Sequence[Boxes]) -> None:
        boxes = np.concatenate([as_boxes([]), *proposed]).astype(np.float32)
        self.covers.append((cover(boxes, annotation.boxes), len(boxes)))
