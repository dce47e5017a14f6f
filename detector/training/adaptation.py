"""Adapt a recipe to a data set: proposals and scales that suit the sizes of its labeled boxes, and their recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes
from detector.build import build_proposer, tile_proposer
from detector.config.detector import AdaptationConfig, Config, ProposalConfig
from detector.datasets.dataset import Annotation
from detector.datasets.tiles import read_view, view_size
from detector.evaluation.proposal_recall import IOUS, ProposalRecall, measure_recall
from detector.runtime.progress import Progress, no_progress
from detector.training.tiling import best_views, with_tile_size

MAX_SHORT_SIDE = 1400
_MIN_SHORT_SIDE = 400
_MAX_ENLARGEMENT = 4
"""An image holds no more detail than its pixels."""
_MAX_MAP_PIXELS = 3_000_000
"""Pixels of the largest scale of most images, a bound of the time and the memory of an image."""
_SCALE_RATIO = 2.0
"""Largest ratio of neighboring scales: at the best of them, no box is more than 1.4 times its best size."""
_MIN_SIDES = (4, 20)
_COUNTS = (2000, 5000, 8000)
_ENOUGH = 0.01  # of recall
_GOOD_RECALL = 0.97
_GAIN = 0.02
"""Gain of recall for which a slower search is worth its time."""
_MAX_SEARCHED = 4_000_000


class Adapted(NamedTuple):
    """A recipe without open settings, and the recall of its proposals on a sample of the images.

    chosen: whether proposals and scales were chosen and are not the recipe's.
    precomputed: whether the proposals are given.
    """

    config: Config
    recall: ProposalRecall
    chosen: bool
    precomputed: bool

    @property
    def remedy(self) -> str:
        """Advice that raises a low recall."""
        if not self.chosen and not self.precomputed:
            return "the recipe default chooses proposals for the data"
        return "search small objects in tiles by --tiles auto, or give boxes of another source by --proposals FILE"

    def __str__(self) -> str:
        """Describe the choice in a line."""
        proposals, sides = self.config.proposals, self.config.features.short_sides
        tiles = "" if self.config.detection.tiles is None else f" and in tiles of {self.config.detection.tiles}"
        source = "chosen from the labeled boxes" if self.chosen else "by the recipe"
        boxes = f"up to {proposals.max_boxes} proposals ({proposals.mode}, from {proposals.min_side} px)"
        flips = "and mirrored images" if self.config.svm.flips else "no mirrored images"
        return (
            f"{source}: {'the given proposals' if self.precomputed else boxes}, {self.recall}; "
            f"images at {', '.join(map(str, sides))} px{tiles}, {flips}"
        )


def adapt_recipe(
    config: Config,
    annotations: Sequence[Annotation],
    progress: Progress = no_progress,
    precomputed: Mapping[str, Boxes] | None = None,
) -> Adapted:
    """Return the recipe with proposals, scales and flips for these images, and the recall of the proposals.

    The choice depends on nothing but the images, the recipe and ``precomputed`` boxes by image id, which take the place
    of proposals. A recipe without ``adaptation`` keeps its proposals and scales.
    """
    config = with_tile_size(config.for_images(len(annotations)), annotations)
    annotations = best_views(config, annotations)
    proposals, features = config.proposals, config.features
    sizes = _sizes(annotations) if config.adaptation.enabled else None
    if sizes is not None:
        features = features.updated({"short_sides": _short_sides(sizes, features.target)})
    if precomputed is not None:
        known = [each for each in annotations if each.image_id in precomputed]
        recall = measure_recall(lambda each: precomputed[each.image_id], known, progress)
    elif sizes is not None:
        proposals, recall = _proposals(proposals, sizes, annotations, progress)
    else:
        recall = _recall(proposals, annotations, progress)
    changed = {"proposals": proposals, "features": features, "adaptation": AdaptationConfig()}
    return Adapted(config.model_copy(update=changed), recall, config.adaptation.enabled, precomputed is not None)


def _recall(config: ProposalConfig, annotations: Sequence[Annotation], progress: Progress) -> ProposalRecall:
    propose = build_proposer(config)
    in_tile = tile_proposer(propose)
    return measure_recall(
        lambda each: (propose if each.window is None else in_tile)(read_view(each)), annotations, progress
    )


class _Sizes(NamedTuple):
    """Sizes of N objects: widths and heights ``(N, 2)``, and heights and widths ``(N, 2)`` of their images, pixels."""

    objects: NDArray[np.float64]
    images: NDArray[np.float64]


def _sizes(annotations: Sequence[Annotation]) -> _Sizes:
    objects, images = [np.empty((0, 2))], [np.empty((0, 2))]
    for each in annotations:
        if not len(each.boxes):
            continue
        try:
            size = view_size(each)
        except (OSError, ValueError):  # reported where the image is decoded
            continue
        objects.append(each.boxes[:, 2:].astype(np.float64) - each.boxes[:, :2])
        images.append(np.tile(np.array(size, np.float64), (len(each.boxes), 1)))
    return _Sizes(np.concatenate(objects), np.concatenate(images))


def _short_sides(sizes: _Sizes, target: float) -> tuple[int, ...]:
    """Return scales at which most objects have a side of ``target`` pixels, or come as near as the limits allow."""
    if not len(sizes.objects):
        return (MAX_SHORT_SIDE // 2,)
    short, aspect = sizes.images.min(1), sizes.images.max(1) / sizes.images.min(1)
    limits = np.minimum(_MAX_ENLARGEMENT * short, np.sqrt(_MAX_MAP_PIXELS / aspect))
    wanted = target * short / np.sqrt(np.maximum(sizes.objects.prod(1), 1))
    limit = max(min(MAX_SHORT_SIDE, float(np.median(limits))), _MIN_SHORT_SIDE)
    low, high = np.clip(np.quantile(wanted, (0.1, 0.9)), _MIN_SHORT_SIDE, limit)
    steps = int(np.ceil(np.log(high / low) / np.log(_SCALE_RATIO) - 1e-9))
    return tuple(sorted({round(float(side)) for side in np.geomspace(low, high, steps + 1)}))


def _proposals(
    config: ProposalConfig, sizes: _Sizes, annotations: Sequence[Annotation], progress: Progress
) -> tuple[ProposalConfig, ProposalRecall]:
    """Return proposals that cover the objects of a sample of images, as few and as fast as possible."""
    min_side = _MIN_SIDES[1]
    if len(sizes.objects):
        pixels = sizes.images.prod(1)
        zooms = np.minimum(config.zoom, np.sqrt((config.max_pixels or np.inf) / pixels))
        # a proposal of half an object's side may still be refined to it
        smallest = np.quantile(sizes.objects.min(1) * zooms, 0.02) / 2
        min_side = int(np.clip(smallest, *_MIN_SIDES))
    common = {"min_side": min_side, "max_boxes": _COUNTS[-1]}
    best = config.model_copy(update={**common, "mode": "fast"})
    recall = _recall(best, annotations, progress)
    for more in ({"mode": "quality"}, {"mode": "quality", "max_pixels": _MAX_SEARCHED}):
        if recall.at(0.5) >= _GOOD_RECALL:
            break
        slower = config.model_copy(update={**common, **more})
        found = _recall(slower, annotations, progress)
        if found.at(0.5) >= recall.at(0.5) + _GAIN:
            best, recall = slower, found
    count = next(each for each in _COUNTS if all(recall.at(iou, each) >= recall.at(iou) - _ENOUGH for iou in IOUS))
    return best.model_copy(update={"max_boxes": count}), recall.first(count)
