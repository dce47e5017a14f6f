"""The detector as a whole: detect, save to a file and load from it.

One way leads from an image to its detections, for one detector (`Detector`) as for several (`detector.ensemble`)::

    image --propose--> boxes --maps--> Inputs          or from a cache: Detector.cached_inputs
    Inputs --candidates--> scored boxes, of all detectors together --chosen--> Detections

`joint_detection.detect_in_image` walks all of it, `joint_detection.detect_in_inputs` its second line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes, clip, decode_deltas, flip
from detector.build import TUNED, Proposer, proposer_key, stages_of
from detector.config.detector import Config, DetectionConfig, parse_config
from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.features.cache import FeatureCache
from detector.features.encoder import Encoder, FeatureMaps, Features
from detector.heads.calibration import Calibration
from detector.heads.fully_connected import FullyConnected
from detector.heads.heads import Heads, RegressorInput, Scorer
from detector.heads.linear import BoxRegressors
from detector.heads.proposal_filter import ProposalFilter
from detector.heads.refinement import SAME_OBJECT, Refiner, vote
from detector.heads.suppression import join, select, suppress
from detector.images.files import ImageLike, as_image
from detector.model_file import DEFAULT_MODEL, DETECTOR, ModelContents, read_model, write_model
from detector.runtime.openvino import Runtime
from detector.runtime.progress import stage

if TYPE_CHECKING:
    from detector.explanation.attribution import Evidence
    from detector.explanation.diagnosis import Verdict

Inputs = tuple[FeatureMaps, Boxes]
"""What a detector sees of an image: its feature maps and the ``(R, 4)`` boxes that are scored."""


class AnyDetector(Protocol):
    """What detecting together, and explaining, ask of a detector; see `pipeline.Detector`."""

    @property
    def propose(self) -> Proposer: ...
    @property
    def encoder(self) -> Encoder: ...
    @property
    def heads(self) -> Heads: ...
    @property
    def regressors(self) -> BoxRegressors | None: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def settings(self) -> DetectionConfig: ...
    @property
    def calibration(self) -> Calibration | None: ...
    @property
    def uses_mirror_image(self) -> bool: ...

    def decision_function(self, pooled: Features) -> Features: ...
    def maps(self, image: NDArray[np.uint8], boxes: Boxes) -> FeatureMaps: ...
    def filter_proposals(self, maps: FeatureMaps, boxes: Boxes) -> Boxes: ...
    def scored_boxes(self, maps: FeatureMaps, boxes: Boxes, least: float) -> Detections: ...
    def postprocess(self, candidates: Detections) -> Detections: ...
    def detecting(self, **settings: Any) -> AnyDetector: ...


def joint_class_names(detectors: Sequence[AnyDetector]) -> tuple[str, ...]:
    """The classes of the first detector, then what others know besides."""
    return tuple(dict.fromkeys(name for detector in detectors for name in detector.class_names))


def detect_in_image(
    detectors: Sequence[AnyDetector],
    image: ImageLike,
    boxes: Boxes | None = None,
    min_score: float | None = None,
    max_detections: int | None = None,
) -> Detections:
    """`Detector.detect` by several detectors together; those that propose alike share their boxes."""
    return detect_in_inputs(detectors, inputs_in_image(detectors, image, boxes), min_score, max_detections)


def inputs_in_image(detectors: Sequence[AnyDetector], image: ImageLike, boxes: Boxes | None = None) -> list[Inputs]:
    """What each detector sees of an image; ``boxes`` take the place of their proposals."""
    image = as_image(image)
    proposed: dict[Any, Boxes] = {}
    inputs = []
    for detector in detectors:
        key = proposer_key(detector.propose)
        if key not in proposed:
            with stage("proposals"):
                proposed[key] = detector.propose(image) if boxes is None else as_boxes(boxes)
        maps = detector.maps(image, proposed[key])
        inputs.append((maps, detector.filter_proposals(maps, proposed[key])))
    return inputs


def detect_in_inputs(
    detectors: Sequence[AnyDetector],
    inputs: Sequence[Inputs],
    min_score: float | None = None,
    max_detections: int | None = None,
) -> Detections:
    """`detect_in_image` for an image of which each detector has its inputs already.

    What all of them find is suppressed together, class by class name, by the settings of the first. One alone tells
    probabilities, if it has a calibration.
    """
    min_score, most = detectors[0].settings.limits(min_score, max_detections)
    # a setting that keeps fewer detections than are asked for gives way
    detectors = [
        each.detecting(max_detections=most) if most > each.settings.max_detections else each for each in detectors
    ]
    parts = [
        detector.scored_boxes(maps, boxes, min(min_score, detector.settings.min_score))
        for detector, (maps, boxes) in zip(detectors, inputs, strict=True)
    ]
    found = detectors[0].postprocess(join(parts)).above(min_score).top(most)
    calibration = detectors[0].calibration
    return found if calibration is None or len(detectors) > 1 else calibration(found)


@dataclass(frozen=True)
class Detector:
    """A trained detector: every stage is a callable or plain learned arrays, and can be replaced.

    ``settings`` say what is kept of the scored boxes; `Heads` tells of the learned parts. ``config`` is its recipe, for
    its file and for training more classes; of detection it says what ``settings`` say.
    ``record`` tells on what it was trained, when, and how well it did, as JSON-able values. Raises ValueError for parts
    that do not fit together.
    """

    propose: Proposer
    encoder: Encoder
    scorer: Scorer
    regressors: BoxRegressors | None
    class_names: tuple[str, ...]
    settings: DetectionConfig = field(default_factory=DetectionConfig)
    config: Config = field(default_factory=Config)
    record: Mapping[str, Any] = field(default_factory=dict)
    layers: FullyConnected | None = None
    regressors_read: RegressorInput = "pooled"
    calibration: Calibration | None = None
    proposal_filter: ProposalFilter | None = None

    def __post_init__(self) -> None:
        self.heads.check(self.encoder.n_features, len(self.class_names))
        object.__setattr__(self, "config", self.config.model_copy(update={"detection": self.settings}))

    @classmethod
    def by_recipe(
        cls,
        config: Config,
        propose: Proposer,
        encoder: Encoder,
        heads: Heads,
        class_names: Sequence[str],
        record: Mapping[str, Any] | None = None,
    ) -> Detector:
        """The detector of these parts, with the recipe's settings of detection."""
        parts = (propose, encoder, heads.scorer, heads.regressors, tuple(class_names), config.detection, config)
        return cls(*parts, record or {}, heads.layers, heads.regressors_read, heads.calibration, heads.proposal_filter)

    @property
    def heads(self) -> Heads:
        """All that was learned after the pooling."""
        parts = self.scorer, self.regressors, self.layers, self.regressors_read, self.calibration, self.proposal_filter
        return Heads(*parts)

    def decision_function(self, pooled: Features) -> Features:
        """Scores ``(R, K)`` float32 of ``(R, D)`` float32 pooled features: margins, or log odds of a softmax."""
        return self.heads.decision_function(pooled)

    def detect(
        self,
        image: ImageLike,
        boxes: Boxes | None = None,
        min_score: float | None = None,
        max_detections: int | None = None,
    ) -> Detections:
        """Objects in an image, best first: an ``(H, W, 3)`` uint8 RGB array, a PIL image, or the path of a file.

        ``boxes`` ``(R, 4)`` float32 take the place of the detector's own proposals. ``min_score`` (an SVM margin) and
        ``max_detections`` take the place of the settings'. Scored boxes are suppressed class by class, moved by
        the regressor of their class, clipped to the image and suppressed again (release: spp_test, bbox); or,
        where the settings ask for refinements, moved and scored again before (see `refinement`).
        """
        return detect_in_image([self], image, boxes, min_score, max_detections)

    def detect_in_maps(
        self, maps: FeatureMaps, boxes: Boxes, min_score: float | None = None, max_detections: int | None = None
    ) -> Detections:
        """`detect` for an image whose feature maps and ``(R, 4)`` boxes are there already."""
        return detect_in_inputs([self], [(maps, boxes)], min_score, max_detections)

    def detect_cached(self, cache: FeatureCache, annotation: Annotation) -> Detections:
        """`detect` in an image of a data set, from features in ``cache``; what is missing there is computed."""
        return detect_in_inputs([self], [self.cached_inputs(cache, annotation)])

    def detecting(self, **settings: Any) -> Detector:
        """This detector with other settings of `DetectionConfig`; ValueError for those that cannot be."""
        changed = parse_config({"detection": self.settings.model_dump() | settings}, "detection")
        return replace(self, settings=changed.detection)

    @property
    def uses_mirror_image(self) -> bool:
        """Whether boxes are looked at in the mirror image, too, which is a part of refinement."""
        return self.settings.mirrored and self.regressors is not None

    def maps(self, image: NDArray[np.uint8], boxes: Boxes) -> FeatureMaps:
        """Feature maps of an ``(H, W, 3)`` uint8 RGB image, as far as its boxes ``(R, 4)`` and the settings need."""
        maps = self.encoder.maps(image, boxes)
        if not self.uses_mirror_image:
            return maps
        return replace(maps, mirrored=self.encoder.maps(image[:, ::-1], flip(boxes, image.shape[1])))

    def cache(self, directory: Path, precomputed: Mapping[str, Boxes] | None = None) -> FeatureCache:
        """The cache under ``directory`` of this detector's feature maps and proposals (or ``precomputed`` boxes).

        Proposals are kept by the recipe's settings of them: a detector whose ``propose`` is not the recipe's needs a
        `FeatureCache` with settings of its own, or ``precomputed`` boxes.
        """
        return FeatureCache(directory, self.encoder, self.propose, self.config.proposals.model_dump(), precomputed)

    def cached_inputs(self, cache: FeatureCache, annotation: Annotation) -> Inputs:
        """`maps` and boxes of an image of a data set, from ``cache``; what is missing there is computed."""
        maps = cache.maps(annotation.image_id, annotation.path)
        if self.uses_mirror_image:
            maps = replace(maps, mirrored=cache.mirrored_maps(annotation.image_id, annotation.path))
        return maps, self.filter_proposals(maps, cache.proposals(annotation.image_id, annotation.path))

    def filter_proposals(self, maps: FeatureMaps, boxes: Boxes) -> Boxes:
        """Those of ``(R, 4)`` boxes, in their order, that `candidates` are made of: as many as the settings allow.

        They are the best of the proposal_filter or, without one, the first.
        """
        most = self.settings.max_boxes
        if most is None or len(boxes) <= most:
            return boxes
        if self.proposal_filter is None:
            return boxes[:most]
        with stage("proposal_filter"):
            return boxes[self.proposal_filter.choose(self.encoder, maps, boxes, most)]

    def scored_boxes(self, maps: FeatureMaps, boxes: Boxes, least: float) -> Detections:
        """Boxes that score at least ``least`` in some class, moved where there are regressors, not yet suppressed.

        In the release's order only those are moved that survive a suppression before.
        """
        settings, heads, features = self.settings, self.heads, None
        with stage("pooling and scores"):
            regions = self.encoder.regions(maps, boxes)
            if heads.moves_by_layers:
                features = self.encoder.apply(heads.features, maps, regions)
                scores = heads.scorer.decision_function(features)
            else:
                scores = self.encoder.apply(heads.decision_function, maps, regions)
        if self.regressors is not None and settings.box_refinements:
            with stage("refinement"):
                refine = Refiner(self.encoder, heads, settings.box_refinements)
                return refine(maps, boxes, scores, self.class_names, least, features)
        if self.regressors is None:
            labels, rows = (scores >= least).T.nonzero()
            return Detections(boxes[rows], labels, scores[rows, labels], self.class_names)
        with stage("suppression"):
            found = select(boxes, scores, self.class_names, least, settings.nms_iou, settings.max_detections)
        with stage("box regression"):
            pooled = self.encoder.pool(maps, self.encoder.regions(maps, found.boxes))
            moved = clip(decode_deltas(found.boxes, heads.move(pooled, found.labels)), *maps.image_size)
            return replace(found, boxes=moved).inside()

    def postprocess(self, candidates: Detections) -> Detections:
        """What is left of `candidates` after suppression and, where the settings ask for refinements, voting."""
        settings = self.settings
        with stage("suppression"):
            survivors = suppress(candidates, settings.nms_iou).top(settings.max_detections)
            if self.regressors is None or not settings.box_refinements:
                return survivors
            return suppress(vote(survivors, candidates, settings.vote_iou, settings.min_score), SAME_OBJECT)

    def explain(self, image: NDArray[np.uint8], detections: Detections) -> list[Evidence]:
        """Why each of the ``detections`` that this detector made of an image scores what it does, in their order.

        Raises ValueError for detections that it did not make of this image.
        """
        from detector.explanation.explainer import Explainer

        return Explainer([self], image).explain(detections)

    def explain_box(self, image: NDArray[np.uint8], box: Boxes, class_name: str) -> Verdict:
        """Why a box ``(4,)`` of an image was found as an object of a class, or why not; see `Verdict`."""
        from detector.explanation.explainer import Explainer

        return Explainer([self], image).explain_box(box, class_name)

    def save(self, path: str | Path) -> None:
        """Write the model to one safetensors file, whole or not at all.

        Of the backbone, only fine-tuned layers are in it.
        """
        backbone = self.encoder.backbone
        tuned = {f"{TUNED}.{name}": np.asarray(tensor) for name, tensor in backbone.tuned.items()}
        recipe, arrays = self.config.model_dump(mode="json"), self.heads.to_arrays() | tuned
        write_model(path, DETECTOR, ModelContents(arrays, self.class_names, recipe, backbone.digest, self.record))

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        device: str = "cpu",
        weights: str | Path | None = None,
        runtime: Runtime | None = None,
    ) -> Detector:
        """Load a model file, by default the one that comes with the package.

        ``weights`` is where the backbone's weights are, if not where they were in training; ``runtime`` computes
        them, if not what the model says. Raises OSError when a file cannot be read and ValueError, naming it, when it
        is no model or does not fit its backbone.
        """

        def compose(contents: ModelContents) -> Detector:
            stages = stages_of(contents, device, weights, runtime)
            return cls.by_recipe(*stages, contents.class_names, contents.record)

        return read_model(str(DEFAULT_MODEL) if path is None else path, DETECTOR, compose)
