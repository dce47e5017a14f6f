"""Score the boxes of an image and select detections: by one set of heads, and by several together.

::

    image --propose--> boxes --encoder--> feature maps, boxes to score     BoxScorer.inputs, or BoxScorer.cached_inputs
    feature maps, boxes --heads--> scored boxes                            BoxScorer.scored_boxes
    scored boxes --suppression, voting--> detections                       BoxScorer.postprocess

`detect_in_inputs` runs the last two steps, `detect_in_image` all, in the whole image and in its tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, area, as_boxes, clip, decode_deltas
from detector.build import Proposer, proposer_key, tile_proposer
from detector.config.detector import Config, parse_config
from detector.datasets.dataset import Annotation
from detector.datasets.tiles import crop, cut, view_size
from detector.detections import Detections
from detector.features.cache import FeatureCache
from detector.features.encoder import Encoder, FeatureMaps, Features
from detector.heads.calibration import Calibration
from detector.heads.heads import Heads
from detector.heads.refinement import SAME_OBJECT, RefinedBoxes, ScoredBoxes, refine, vote
from detector.heads.suppression import join, select, suppress
from detector.heads.views import join_views
from detector.images.files import ImageLike, as_image
from detector.runtime.progress import timer
from detector.thresholds import Thresholds
from detector.tiles import Window, moved, tile_windows

OBJECT_SIDE = "object_side"
"""Key of a record for the side in pixels, the root of the area, of the smallest tenth of the training's objects."""
Inputs = tuple[FeatureMaps, Boxes]
"""Feature maps of an image and the ``(R, 4)`` boxes to score."""
Record = Callable[[Boxes], None]
"""Takes the proposals ``(R, 4)`` of an image or tile, in pixels of the image."""


@dataclass(frozen=True, eq=False)
class BoxScorer:
    """Proposals, encoder and one set of heads. Every part is a callable or plain learned arrays, and can be replaced.

    propose: image to ``(R, 4)`` boxes.
    encoder: image and boxes to features.
    heads: features to scores and box deltas; all that was learned after the pooling.
    class_names: names of the labels 0..K-1.
    config: the recipe; its section ``detection`` decides which scored boxes are kept, and cuts images into tiles.
    record: on what the model was trained, when, and how well it did, as JSON-able values.
    """

    propose: Proposer
    encoder: Encoder
    heads: Heads
    class_names: tuple[str, ...]
    config: Config = field(default_factory=Config)
    record: Mapping[str, Any] = field(default_factory=dict)

    def with_detection(self, **settings: Any) -> Self:
        """Return a copy with other settings of `DetectionConfig`. Raises ValueError for invalid ones."""
        changed = parse_config({"detection": self.config.detection.model_dump() | settings}, "detection")
        return replace(self, config=self.config.model_copy(update={"detection": changed.detection}))

    def windows(self, size: tuple[int, int]) -> list[Window]:
        """Return the tiles that an image of a height and width is also detected in; see `tile_windows`."""
        if self.config.detection.tiles is None:
            return []
        side = self.record.get(OBJECT_SIDE)
        known = side if isinstance(side, int | float) and 0 < side < np.inf else None
        return tile_windows(size, self.config.detection.tiles, max(self.encoder.short_sides), known)

    def inputs(self, image: ImageLike, boxes: Boxes | None = None) -> Inputs:
        """Propose boxes, or take the ``(R, 4)`` given, compute feature maps, and filter the boxes to score."""
        return inputs_of([self], image, boxes)[0]

    def cached_inputs(self, cache: FeatureCache, annotation: Annotation) -> Inputs:
        """Return `inputs` of an image or tile of a data set from ``cache``; missing ones are computed and stored."""
        view = annotation.image_id, annotation.path, annotation.window
        maps = cache.maps(*view)
        return maps, self.filter_proposals(maps, cache.proposals(*view))

    def filter_proposals(self, maps: FeatureMaps, boxes: Boxes) -> Boxes:
        """Keep at most ``detection.max_boxes`` of ``(R, 4)`` boxes, in their order.

        The best of the proposal filter stay or, without a filter, the first.
        """
        limit = self.config.detection.max_boxes
        if limit is None or len(boxes) <= limit:
            return boxes
        if self.heads.proposal_filter is None:
            return boxes[:limit]
        with timer("proposal filter"):
            return boxes[self.heads.proposal_filter.choose(self.encoder, maps, boxes, limit)]

    @property
    def suppresses_first(self) -> bool:
        """True where boxes are suppressed before box regression, too: the order of the release (spp_test)."""
        return bool(self.heads.regressors) and not self.config.detection.box_refinements

    def is_refined(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which boxes are refined, by their scores as proposed; both have any shape.

        Those that reach the recipe's ``min_score``; all where the detector `suppresses_first`.
        """
        return scores >= (-np.inf if self.suppresses_first else self.config.detection.min_score)

    def score_boxes(self, maps: FeatureMaps, boxes: Boxes) -> tuple[Features, Features | None]:
        """Return the scores ``(R, K)`` of ``(R, 4)`` boxes and, if box regression reads them, their fc features."""
        regions = self.encoder.regions(maps, boxes)
        if not self.heads.regresses_from_layers:
            return self.encoder.apply(self.heads.decision_function, maps, regions), None
        features = self.encoder.apply(self.heads.features, maps, regions)
        return self.heads.scorer.decision_function(features), features

    def refine_boxes(
        self,
        maps: FeatureMaps,
        boxes: Boxes,
        labels: NDArray[np.int64],
        scores: NDArray[np.float32],
        deltas: Boxes | None = None,
    ) -> RefinedBoxes:
        """Refine boxes by the regressor of their class, as often as the recipe says.

        boxes: ``(N, 4)``. labels, scores: ``(N,)``, the class of each box and its score where it is.
        deltas: ``(N, 4)`` of the first refinement, where they are known.
        """
        rounds = self.config.detection.box_refinements
        if not self.heads.regressors:
            return RefinedBoxes(boxes, scores, [boxes])
        if rounds:
            with timer("refinement"):
                return refine(self.encoder, self.heads, maps, boxes, labels, scores, rounds, deltas)
        with timer("box regression"):
            pooled = self.encoder.pool(maps, self.encoder.regions(maps, boxes))
            deltas = self.heads.regress(pooled, labels)
            return RefinedBoxes(clip(decode_deltas(boxes, deltas), *maps.image_size), scores, [boxes])

    def scored_boxes(self, maps: FeatureMaps, boxes: Boxes, min_score: float) -> ScoredBoxes:
        """Score ``(R, 4)`` boxes, and refine those that reach the recipe's ``min_score`` in some class.

        Where ``min_score`` is lower, boxes that reach only this are returned, too, as they are: what is asked for never
        changes where other boxes end. Where the detector `suppresses_first`, boxes are suppressed class by class, and
        only the survivors are refined.
        """
        settings, heads = self.config.detection, self.heads
        lowest = min(min_score, settings.min_score)
        with timer("pooling and scores"):
            scores, features = self.score_boxes(maps, boxes)
        if self.suppresses_first:
            with timer("suppression"):
                found = select(boxes, scores, self.class_names, lowest, settings.nms_iou, settings.max_detections)
            refined = self.refine_boxes(maps, found.boxes, found.labels, found.scores)
            return ScoredBoxes(replace(found, boxes=refined.boxes).inside(), Detections.empty(self.class_names))
        # grouped by class, so that a block of rows has few classes
        labels, rows = self.is_refined(scores).T.nonzero()
        deltas = None
        if features is not None:
            deltas = heads.regressors[0].predict(features, labels, rows)
        refined = self.refine_boxes(maps, boxes[rows], labels, scores[rows, labels], deltas)
        found = Detections(refined.boxes, labels, refined.scores, self.class_names)
        labels, rows = ((scores >= lowest) & ~self.is_refined(scores)).T.nonzero()
        others = Detections(boxes[rows], labels, scores[rows, labels], self.class_names)
        return ScoredBoxes(found.inside() if heads.regressors else found, others)

    def postprocess(self, scored: Detections, others: Detections | None = None) -> Detections:
        """Suppress scored boxes class by class and, after refinements, place the survivors by box voting.

        others: boxes that do not vote; those that no better box suppresses remain.
        """
        settings = self.config.detection
        voting = bool(self.heads.regressors and settings.box_refinements)
        with timer("suppression"):
            survivors = suppress(scored, settings.nms_iou).top(settings.max_detections)
            if voting:
                placed = vote(survivors, scored, settings.vote_iou, settings.min_score)
                survivors = suppress(placed, SAME_OBJECT)
            if others is None or not len(others):
                return survivors
            # survivors of the vote may overlap by more than nms_iou, which the others must not change
            joined = join([survivors, suppress(others, settings.nms_iou)])
            return suppress(joined, SAME_OBJECT if voting else settings.nms_iou).top(settings.max_detections)


def joint_class_names(detectors: Sequence[BoxScorer]) -> tuple[str, ...]:
    """Return the class names of the first detector, then those that only later ones know."""
    return tuple(dict.fromkeys(name for detector in detectors for name in detector.class_names))


def joint_calibration(detectors: Sequence[BoxScorer]) -> Calibration | None:
    """Return the calibration of the classes of all detectors; None if they share a class, or one is not calibrated."""
    if len(joint_class_names(detectors)) < sum(len(each.class_names) for each in detectors):
        return None
    calibration, *others = [each.heads.calibration for each in detectors]
    for each in others:
        calibration = None if calibration is None or each is None else calibration + each
    return calibration


def detect_in_image(
    detectors: Sequence[BoxScorer],
    image: ImageLike,
    boxes: Boxes | None = None,
    thresholds: Thresholds | None = None,
    max_detections: int | None = None,
    record: Record | None = None,
) -> Detections:
    """Detect in an image and in the tiles that the first detector cuts it into; limits as in `detect_in_inputs`.

    boxes: ``(R, 4)`` instead of proposals; then the image is not cut. record: receives all proposals.
    """
    image = as_image(image)

    def detect(window: Window | None) -> Detections:
        inputs = inputs_of(detectors, crop(image, window), boxes, window, record)
        return detect_in_inputs(detectors, inputs, thresholds, max_detections)

    return detect(None) if boxes is not None else detect_in_views(detectors, detect, max_detections)


def detect_in_caches(
    pairs: Sequence[tuple[BoxScorer, FeatureCache]], annotation: Annotation, record: Record | None = None
) -> Detections:
    """Detect in an image of a data set as `detect_in_image` does, with features from the cache of each detector."""
    detectors = [detector for detector, _ in pairs]

    def detect(window: Window | None) -> Detections:
        view = annotation if window is None else cut(annotation, window)
        if record is not None:
            for _, cache in pairs:
                record(moved(cache.proposals(view.image_id, view.path, window), window))
        return detect_in_inputs(detectors, [detector.cached_inputs(cache, view) for detector, cache in pairs])

    return detect_in_views(detectors, detect)


def cached_proposals(scorer: BoxScorer, cache: FeatureCache, annotation: Annotation) -> Boxes:
    """Return the proposals ``(R, 4)`` of an image of a data set and of its tiles, in pixels of the image."""
    image = annotation.image_id, annotation.path
    windows = scorer.windows(view_size(annotation))
    tiles = [moved(cache.proposals(*image, window), window) for window in windows]
    return np.concatenate([cache.proposals(*image), *tiles])


def detect_in_views(
    detectors: Sequence[BoxScorer], detect: Callable[[Window | None], Detections], max_detections: int | None = None
) -> Detections:
    """Join what ``detect`` finds in the whole image, None, and in each of its tiles, one after the other."""
    whole = detect(None)
    settings = detectors[0].config.detection
    if whole.image_size is None or not (windows := detectors[0].windows(whole.image_size)):
        return whole
    limit = settings.max_detections if max_detections is None else max_detections
    return join_views(whole, [(window, detect(window)) for window in windows], settings.nms_iou, limit)


def inputs_of(
    detectors: Sequence[BoxScorer],
    image: ImageLike,
    boxes: Boxes | None = None,
    window: Window | None = None,
    record: Record | None = None,
) -> list[Inputs]:
    """Return `BoxScorer.inputs` of each detector; equal proposers and one encoder run once for all.

    window: that of a tile, which the image is. record: receives all proposals.
    """
    image = as_image(image)
    if boxes is not None:
        boxes = as_boxes(boxes)
        boxes = boxes[area(clip(boxes, *image.shape[:2])) > 0]
    proposed: dict[Any, Boxes] = {}
    computed: dict[Any, FeatureMaps] = {}
    inputs = []
    for detector in detectors:
        key = proposer_key(detector.propose)
        if key not in proposed:
            with timer("proposals"):
                propose = detector.propose if window is None else tile_proposer(detector.propose)
                proposed[key] = propose(image) if boxes is None else boxes
            if record is not None:
                record(moved(proposed[key], window))
        both = key, id(detector.encoder)
        if both not in computed:
            computed[both] = detector.encoder.maps(image, proposed[key])
        inputs.append((computed[both], detector.filter_proposals(computed[both], proposed[key])))
    return inputs


def detect_in_inputs(
    detectors: Sequence[BoxScorer],
    inputs: Sequence[Inputs],
    thresholds: Thresholds | None = None,
    max_detections: int | None = None,
) -> Detections:
    """Detect in an image whose inputs each detector has.

    Scored boxes of detectors that share a class are suppressed together, class by class name, by the settings of the
    first. BoxScorers of different classes change none of each other's results: each has settings and limits of its own.
    thresholds: minimum scores ``(K,)`` of `joint_class_names`; by default the recipe's ``min_score`` of the first
        detector that knows a class. Lower ones only add detections.
    Probabilities are those of the `joint_calibration`.
    """
    settings, names = detectors[0].config.detection, joint_class_names(detectors)
    if thresholds is None:
        min_scores = {name: each.config.detection.min_score for each in detectors[::-1] for name in each.class_names}
        thresholds = np.array([min_scores[name] for name in names], np.float32)
    limits = dict(zip(names, thresholds.tolist(), strict=True))
    limit = settings.max_detections if max_detections is None else max_detections
    # a setting that keeps fewer detections than asked for gives way
    detectors = [
        each.with_detection(max_detections=limit) if limit > each.config.detection.max_detections else each
        for each in detectors
    ]
    parts = []
    for detector, (maps, boxes) in zip(detectors, inputs, strict=True):
        lowest = min((limits[name] for name in detector.class_names), default=settings.min_score)
        parts.append(detector.scored_boxes(maps, boxes, lowest))
    separate = len(names) == sum(len(each.class_names) for each in detectors)
    groups = [[row] for row in range(len(detectors))] if separate else [[*range(len(detectors))]]
    kept = []
    for rows in groups:
        refined, others = (join(column) for column in zip(*(parts[row] for row in rows), strict=True))
        own = detectors[rows[0]].postprocess(refined, others)
        kept.append(own.reaching(np.array([limits[name] for name in own.class_names], np.float32)).top(limit))
    # the recipe's limit is each detector's own; one that is asked for is that of the image
    found = join(kept).top(limit * len(groups) if max_detections is None else limit)
    calibration = joint_calibration(detectors)
    found = found if calibration is None else calibration(found)
    return replace(found, image_size=inputs[0][0].image_size)
