"""Detect objects with one trained model: from an image to its detections, and from a model file to a detector.

::

    image --propose--> boxes --encoder--> feature maps, boxes to score     Detector.inputs, or Detector.cached_inputs
    feature maps, boxes --heads--> scored boxes                            Detector.scored_boxes
    scored boxes --suppression, voting--> detections                       Detector.postprocess

`detect_in_inputs` runs the last two steps, for one model as for several (`detector.ensemble`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, area, as_boxes, clip, decode_deltas
from detector.build import ADDED, Proposer, build_added, build_from_model, proposer_key
from detector.config.detector import Config, parse_config
from detector.datasets.dataset import Annotation, shortened
from detector.detection_model import DetectionModel
from detector.detections import Detections
from detector.features.cache import FeatureCache
from detector.features.encoder import Encoder, FeatureMaps, Features
from detector.heads.calibration import Calibration
from detector.heads.heads import Heads
from detector.heads.refinement import SAME_OBJECT, refine, vote
from detector.heads.suppression import join, select, suppress
from detector.images.files import ImageLike, as_image
from detector.model_file import BACKBONE, DEFAULT_MODEL, DETECTOR, ModelContents, read_model, write_model
from detector.runtime.openvino import Runtime
from detector.runtime.progress import timer
from detector.thresholds import Thresholds

Inputs = tuple[FeatureMaps, Boxes]
"""Feature maps of an image and the ``(R, 4)`` boxes to score."""


class RefinedBoxes(NamedTuple):
    """Boxes after box regression.

    boxes: ``(N, 4)`` where they end. scores: ``(N,)`` float32, the mean over ``positions``.
    positions: one or more arrays ``(N, 4)``, where the boxes were scored, first those that were proposed.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    positions: Sequence[Boxes]


class ScoredBoxes(NamedTuple):
    """Scored boxes of an image before the suppression: those that were refined, and others as they were proposed."""

    refined: Detections
    others: Detections


@dataclass(frozen=True, eq=False)
class Detector(DetectionModel):
    """A trained detector. Every part is a callable or plain learned arrays, and can be replaced.

    propose: image to ``(R, 4)`` boxes.
    encoder: image and boxes to features.
    heads: features to scores and box deltas; all that was learned after the pooling.
    class_names: names of the labels 0..K-1; those of the heads first, then those of ``added``.
    config: the recipe; its section ``detection`` decides which scored boxes are kept.
    record: on what the model was trained, when, and how well it did, as JSON-able values.
    added: detectors of classes that were added later. They share encoder and proposals, and have heads of their own, so
        that no bit of the other classes' results changes.
    Raises ValueError for parts that do not fit together.
    """

    propose: Proposer
    encoder: Encoder
    heads: Heads
    class_names: tuple[str, ...]
    config: Config = field(default_factory=Config)
    record: Mapping[str, Any] = field(default_factory=dict)
    added: tuple[Detector, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        self.heads.check(self.encoder.n_features, self.n_own)
        if self.class_names[self.n_own :] != (names := tuple(name for each in self.added for name in each.class_names)):
            raise ValueError(f"class_names must end with the added classes {names}, but are {self.class_names}")

    @property
    def n_own(self) -> int:
        """Number of classes of the detector's own heads."""
        return len(self.class_names) - sum(len(each.class_names) for each in self.added)

    @cached_property
    def own(self) -> Detector:
        """The detector without the added classes."""
        return replace(self, class_names=self.class_names[: self.n_own], added=()) if self.added else self

    def __repr__(self) -> str:
        """Return such as "Detector(2 classes: cat, dog; trained on 30 images of pets train; mAP 82.1 %)"."""
        facts = [f"{len(self.class_names)} classes: {shortened(self.class_names)}"]
        if "trained_on" in self.record:
            facts.append(f"trained on {self.record.get('images', 'some')} images of {self.record['trained_on']}")
        if (mean := self.metrics.get("mAP")) is not None:
            facts.append(f"mAP {100 * mean:.1f} %")
        if self.calibration is None:
            facts.append("no probabilities")
        elif self.too_weak:
            facts.append("too weak to show boxes by default")
        return f"Detector({'; '.join(facts)})"

    @property
    def detectors(self) -> tuple[Detector, ...]:
        """The detector of the own heads, and those of the added classes."""
        return (self.own, *self.added)

    @property
    def calibration(self) -> Calibration | None:
        """Calibration of the scores, if the model has one."""
        return joint_calibration(self.detectors)

    def detect_one(
        self, image: ImageLike, boxes: Boxes | None, thresholds: Thresholds, max_detections: int | None
    ) -> Detections:
        """Detect what reaches the thresholds ``(K,)``; see `DetectionModel.detect_one`."""
        return detect_in_inputs(self.detectors, inputs_of(self.detectors, image, boxes), thresholds, max_detections)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Accuracy when the model was trained: ``{"metric": "area", "mAP": 0.82, "AP": {..}, ..}``, or empty."""
        return self.record.get("metrics") or self.record.get("cross_validation") or {}

    def detect_cached(self, cache: FeatureCache, annotation: Annotation) -> Detections:
        """Detect in an image of a data set all that reaches the recipe's ``min_score``.

        Features come from ``cache``; missing ones are computed and stored.
        """
        return detect_in_inputs(self.detectors, [each.cached_inputs(cache, annotation) for each in self.detectors])

    def with_detection(self, **settings: Any) -> Detector:
        """Return a copy with other settings of `DetectionConfig`. Raises ValueError for invalid ones."""
        changed = parse_config({"detection": self.config.detection.model_dump() | settings}, "detection")
        config = self.config.model_copy(update={"detection": changed.detection})
        return replace(self, config=config, added=tuple(each.with_detection(**settings) for each in self.added))

    def inputs(self, image: ImageLike, boxes: Boxes | None = None) -> Inputs:
        """Propose boxes, or take the ``(R, 4)`` given, compute feature maps, and filter the boxes to score."""
        return inputs_of([self], image, boxes)[0]

    def cached_inputs(self, cache: FeatureCache, annotation: Annotation) -> Inputs:
        """Return `inputs` of an image of a data set from ``cache``; missing features are computed and stored."""
        maps = cache.maps(annotation.image_id, annotation.path)
        return maps, self.filter_proposals(maps, cache.proposals(annotation.image_id, annotation.path))

    def cache(self, directory: Path, precomputed: Mapping[str, Boxes] | None = None) -> FeatureCache:
        """Open the cache under ``directory`` of this detector's feature maps and proposals, or ``precomputed`` boxes.

        Proposals are stored under the recipe's proposal settings: a detector whose ``propose`` is not the recipe's
        needs a `FeatureCache` with settings of its own, or ``precomputed`` boxes.
        """
        return FeatureCache(directory, self.encoder, self.propose, self.config.proposals.model_dump(), precomputed)

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
        return self.heads.regressors is not None and not self.config.detection.box_refinements

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
        if self.heads.regressors is None:
            return RefinedBoxes(boxes, scores, [boxes])
        if rounds:
            with timer("refinement"):
                positions, means = refine(self.encoder, self.heads, maps, boxes, labels, scores, rounds, deltas)
                return RefinedBoxes(positions[-1], means, positions)
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
        if heads.regressors is not None and features is not None:
            deltas = heads.regressors.predict(features, labels, rows)
        refined = self.refine_boxes(maps, boxes[rows], labels, scores[rows, labels], deltas)
        found = Detections(refined.boxes, labels, refined.scores, self.class_names)
        labels, rows = ((scores >= lowest) & ~self.is_refined(scores)).T.nonzero()
        others = Detections(boxes[rows], labels, scores[rows, labels], self.class_names)
        return ScoredBoxes(found if heads.regressors is None else found.inside(), others)

    def postprocess(self, scored: Detections, others: Detections | None = None) -> Detections:
        """Suppress scored boxes class by class and, after refinements, place the survivors by box voting.

        others: boxes that do not vote; those that no better box suppresses remain.
        """
        settings = self.config.detection
        voting = self.heads.regressors is not None and bool(settings.box_refinements)
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

    @property
    def contents(self) -> ModelContents:
        """All that a model file holds, the weights of the backbone included."""
        backbone = self.encoder.backbone
        arrays = {**self.heads.to_arrays(), **{f"{BACKBONE}.{name}": each for name, each in backbone.tensors.items()}}
        added = []
        for number, each in enumerate(self.added):
            shares_layers = each.heads.layers is not None and each.heads.layers is self.heads.layers
            heads = replace(each.heads, layers=None) if shares_layers else each.heads
            arrays |= {f"{ADDED}.{number}.{name}": array for name, array in heads.to_arrays().items()}
            recipe = each.config.model_dump(mode="json")
            described = {"class_names": list(each.class_names), "config": recipe, "record": dict(each.record)}
            added.append({**described, "shares_layers": shares_layers})
        recipe = self.config.model_dump(mode="json")
        more = {ADDED: added} if added else {}
        return ModelContents(arrays, self.class_names, recipe, backbone.digest, self.record, more)

    def save(self, path: str | Path) -> None:
        """Write the model to one safetensors file, whole or not at all; all weights of the backbone are inside."""
        write_model(path, DETECTOR, self.contents)

    @classmethod
    def load(cls, path: str | Path | None = None, device: str = "cpu", runtime: Runtime | None = None) -> Detector:
        """Load a model file; by default the model of the package.

        device: torch's name of one.
        runtime: "torch", "openvino" or "auto", instead of the model's.
        Raises OSError for a file that cannot be read and ValueError, with its name, for one that is not a model.
        """
        compose = partial(cls.from_contents, device=device, runtime=runtime)
        return read_model(str(DEFAULT_MODEL) if path is None else path, DETECTOR, compose)

    @classmethod
    def from_contents(
        cls,
        contents: ModelContents,
        device: str = "cpu",
        runtime: Runtime | None = None,
        propose: Proposer | None = None,
    ) -> Detector:
        """Build the detector of a model file; ``propose`` replaces the recipe's proposals."""
        config, own, encoder, heads = build_from_model(contents, device, runtime)
        propose = propose or own
        parts = build_added(contents, encoder, heads.layers, device)
        added = tuple(cls(propose, encoder, *each) for each in parts)
        return cls(propose, encoder, heads, contents.class_names, config, contents.record, added)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what a model file holds, and ``propose``: compiled networks and other replaced parts cannot be."""
        backbone = self.encoder.backbone
        return type(self).from_contents, (self.contents, str(backbone.device), backbone.runtime, self.propose)


def joint_class_names(detectors: Sequence[Detector]) -> tuple[str, ...]:
    """Return the class names of the first detector, then those that only later ones know."""
    return tuple(dict.fromkeys(name for detector in detectors for name in detector.class_names))


def joint_calibration(detectors: Sequence[Detector]) -> Calibration | None:
    """Return the calibration of the classes of all detectors; None if they share a class, or one is not calibrated."""
    if len(joint_class_names(detectors)) < sum(len(each.class_names) for each in detectors):
        return None
    calibration, *others = [each.heads.calibration for each in detectors]
    for each in others:
        calibration = None if calibration is None or each is None else calibration + each
    return calibration


def inputs_of(detectors: Sequence[Detector], image: ImageLike, boxes: Boxes | None = None) -> list[Inputs]:
    """Return `Detector.inputs` of each detector; equal proposers and one encoder run once for all."""
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
                proposed[key] = detector.propose(image) if boxes is None else boxes
        both = key, id(detector.encoder)
        if both not in computed:
            computed[both] = detector.encoder.maps(image, proposed[key])
        inputs.append((computed[both], detector.filter_proposals(computed[both], proposed[key])))
    return inputs


def detect_in_inputs(
    detectors: Sequence[Detector],
    inputs: Sequence[Inputs],
    thresholds: Thresholds | None = None,
    max_detections: int | None = None,
) -> Detections:
    """Detect in an image whose inputs each detector has.

    Scored boxes of detectors that share a class are suppressed together, class by class name, by the settings of the
    first. Detectors of different classes change none of each other's results: each has settings and limits of its own.
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
