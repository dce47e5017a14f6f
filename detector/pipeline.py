"""The detector as a whole: compose its stages, detect, save to a file and load from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detector.backbones.backbone import load_backbone
from detector.backbones.truncation import State
from detector.boxes import Boxes, as_boxes, clip, decode_deltas, flip
from detector.config.detector import Config, FeatureConfig, ProposalConfig, parse_config
from detector.detections import Detections, select, suppress
from detector.features.encoder import FeatureMaps, Features, RegionEncoder
from detector.features.normalisation import signed_power
from detector.heads.box_regressors import BoxRegressors
from detector.heads.fully_connected import FullyConnected, Softmax
from detector.heads.linear_svm import LinearSVMs
from detector.heads.refinement import SAME_OBJECT, Refiner, vote
from detector.images.resizing import check_image
from detector.proposals.reduction import propose_reduced
from detector.proposals.selective_search import selective_search
from detector.runtime.timing import stage

if TYPE_CHECKING:
    from detector.explanation.evidence import Evidence
    from detector.explanation.verdict import Verdict

Proposer = Callable[[NDArray[np.uint8]], Boxes]


def build_proposer(config: ProposalConfig) -> Proposer:
    """The source of boxes that a recipe names: image to ``(R, 4)`` boxes."""
    propose: Callable[..., Boxes] = selective_search
    settings = config.model_dump(exclude={"source", "max_pixels"})
    if config.source == "selectivesearch":
        from detector.proposals.sources import selectivesearch_package as propose

        settings = config.model_dump(include={"max_boxes", "min_side"})
    elif config.source == "opencv":
        from detector.proposals.sources import opencv_contrib as propose

        settings = config.model_dump(exclude={"source", "ranking", "max_pixels"})
    proposer: Proposer = partial(propose, **settings)
    if config.max_pixels is None:
        return proposer
    return partial(propose_reduced, propose=proposer, max_pixels=config.max_pixels)


def build_encoder(config: FeatureConfig, device: str = "cpu", tuned: State | None = None) -> RegionEncoder:
    """Network, scales, mapping and pyramid of a recipe; ``device`` is torch's name of one.

    ``tuned``, where given, are the tensors of the file that the recipe names.
    """
    layers = config.tuned if tuned is None else tuned
    return RegionEncoder(
        load_backbone(config.backbone, config.stage, config.weights, device, config.precision, layers),
        short_sides=config.short_sides,
        levels=config.levels,
        margin=config.margin,
        target=config.target,
        scale_rule=config.scale_rule,
        normalise=partial(signed_power, power=config.power),
    )


@dataclass(frozen=True)
class Detector:
    """A trained detector: every stage is a callable or plain learned arrays, and can be replaced.

    ``config`` is the recipe that it was made by; ``record`` says on what it was trained, when, and how well it
    did, as JSON-able values.
    """

    propose: Proposer
    encoder: RegionEncoder
    scorer: LinearSVMs | Softmax
    regressors: BoxRegressors | None
    class_names: tuple[str, ...]
    config: Config = field(default_factory=Config)
    record: Mapping[str, Any] = field(default_factory=dict)
    layers: FullyConnected | None = None

    def __post_init__(self) -> None:
        n_pooled, n_classes = self.encoder.n_features, len(self.class_names)
        if self.layers is not None and self.layers.n_inputs != n_pooled:
            raise ValueError(f"fc6 must take {n_pooled} features, but takes {self.layers.n_inputs}")
        n_features = n_pooled if self.layers is None else self.layers.n_features
        expected = (n_features, n_classes + isinstance(self.scorer, Softmax))
        if self.scorer.weights.shape != expected:
            raise ValueError(f"weights of the scores must have shape {expected}, but got {self.scorer.weights.shape}")
        shape = (n_classes, n_features if self.config.regression.features == "layer" else n_pooled, 4)
        if self.regressors is not None and self.regressors.weights.shape != shape:
            raise ValueError(f"regressor weights must have shape {shape}, but got {self.regressors.weights.shape}")

    def decision_function(self, pooled: Features) -> Features:
        """Scores ``(R, K)`` float32 of ``(R, D)`` float32 pooled features: margins, or log odds of a softmax."""
        return self.scorer.decision_function(pooled if self.layers is None else self.layers(pooled))

    def score(self, pooled: Features, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores ``(R,)`` float32 of ``(R, D)`` pooled features, each in the class of its label ``(R,)`` alone."""
        return self.decision_function(pooled)[np.arange(len(labels)), labels]

    def move(self, pooled: Features, labels: NDArray[np.int64]) -> Boxes:
        """Deltas ``(R, 4)`` float32 of ``(R, D)`` pooled features, each by the regressor of its label ``(R,)``."""
        assert self.regressors is not None
        if self.layers is not None and self.config.regression.features == "layer":
            pooled = self.layers(pooled)
        return self.regressors.predict(pooled, labels)

    def detect(
        self,
        image: NDArray[np.uint8],
        boxes: Boxes | None = None,
        min_score: float | None = None,
        max_detections: int | None = None,
    ) -> Detections:
        """Objects in an ``(H, W, 3)`` uint8 RGB image, best first.

        ``boxes`` ``(R, 4)`` float32 take the place of the detector's own proposals. ``min_score`` (an SVM margin) and
        ``max_detections`` take the place of the recipe's. Scored boxes are suppressed class by class, moved by
        the regressor of their class, clipped to the image and suppressed again (release: spp_test, bbox); or,
        where the recipe asks for refinements, moved and scored anew before (see `refinement`).
        """
        image = check_image(image)
        with stage("proposals"):
            boxes = self.propose(image) if boxes is None else as_boxes(boxes)
        if len(boxes) == 0:
            return Detections.empty(self.class_names)
        return self.detect_in_maps(self.maps(image, boxes), boxes, min_score, max_detections)

    @property
    def uses_mirror_image(self) -> bool:
        """Whether boxes are looked at in the mirror image, too, which is a part of refinement."""
        return self.config.detection.mirrored and self.regressors is not None

    def maps(self, image: NDArray[np.uint8], boxes: Boxes) -> FeatureMaps:
        """Feature maps of an ``(H, W, 3)`` uint8 RGB image, as far as its ``(R, 4)`` boxes and the recipe need them."""
        maps = self.encoder.maps(image, boxes)
        if not self.uses_mirror_image:
            return maps
        return replace(maps, mirrored=self.encoder.maps(image[:, ::-1], flip(boxes, image.shape[1])))

    def detect_in_maps(
        self,
        maps: FeatureMaps,
        boxes: Boxes,
        min_score: float | None = None,
        max_detections: int | None = None,
    ) -> Detections:
        """`detect` for an image whose feature maps and ``(R, 4)`` boxes are there already."""
        settings = self.config.detection
        min_score, most = settings.limits(min_score, max_detections)
        detector = self.keeping(most)
        candidates = detector.candidates(maps, boxes, min(min_score, settings.min_score))
        return detector.chosen(candidates).above(min_score).top(most)

    def keeping(self, count: int) -> Detector:
        """This detector; where its recipe keeps fewer than ``count`` detections of an image, one that keeps them."""
        return self if count <= self.config.detection.max_detections else self.detecting(max_detections=count)

    def detecting(self, **settings: Any) -> Detector:
        """This detector with other settings of `config.DetectionConfig`.

        Raises ValueError for one that there is not, for values that are out of range or do not go together.
        """
        content = self.config.model_dump(mode="json")
        return replace(self, config=parse_config(content | {"detection": content["detection"] | settings}, "detection"))

    def candidates(self, maps: FeatureMaps, boxes: Boxes, least: float) -> Detections:
        """Boxes that score at least ``least`` in some class, moved where there are regressors, not yet suppressed.

        In the release's order only those are moved that survive a suppression before.
        """
        settings = self.config.detection
        with stage("pooling and scores"):
            scores = self.encoder.apply(self.decision_function, maps, self.encoder.windows(maps, boxes))
        if self.regressors is not None and settings.refinements:
            with stage("refinement"):
                refine = Refiner(self.encoder, self.move, self.score, settings.refinements)
                return refine(maps, boxes, scores, self.class_names, least)
        if self.regressors is None:
            labels, rows = (scores >= least).T.nonzero()
            return Detections(boxes[rows], labels, scores[rows, labels], self.class_names)
        with stage("suppression"):
            found = select(boxes, scores, self.class_names, least, settings.nms_iou, settings.max_detections)
        with stage("box regression"):
            pooled = self.encoder.pool(maps, self.encoder.windows(maps, found.boxes))
            moved = clip(decode_deltas(found.boxes, self.move(pooled, found.labels)), *maps.image_size)
            return replace(found, boxes=moved).inside()

    def chosen(self, candidates: Detections) -> Detections:
        """What is left of `candidates` after suppression and, where the recipe asks for refinements, voting."""
        settings = self.config.detection
        with stage("suppression"):
            survivors = suppress(candidates, settings.nms_iou).top(settings.max_detections)
            if self.regressors is None or not settings.refinements:
                return survivors
            return suppress(vote(survivors, candidates, settings.vote_iou, settings.min_score), SAME_OBJECT)

    def explain(self, image: NDArray[np.uint8], detections: Detections) -> list[Evidence]:
        """Why each of the ``detections`` that this detector made of an image scores what it does, in their order.

        Raises ValueError for detections that it did not make of this image.
        """
        from detector.ensemble import Ensemble

        return Ensemble([self]).explain(image, detections)

    def explain_box(self, image: NDArray[np.uint8], box: Boxes, class_name: str) -> Verdict:
        """Why a box ``(4,)`` of an image was found as an object of a class, or why not; see `Verdict`."""
        from detector.ensemble import Ensemble

        return Ensemble([self]).explain_box(image, box, class_name)

    def save(self, path: str | Path) -> None:
        """Write the model to one safetensors file, whole or not at all.

        Of the backbone, only fine-tuned layers are in it.
        """
        from detector.model_file import write_model

        write_model(self, Path(path))

    @classmethod
    def load(cls, path: str | Path | None = None, device: str = "cpu", weights: str | Path | None = None) -> Detector:
        """Load a model file, by default the one that comes with the package.

        ``weights`` is where the backbone's weights are, if not where they were in training. Raises OSError when a
        file cannot be read and ValueError, naming it, when it is no model or does not fit its backbone.
        """
        from detector.model_file import read_model

        return read_model(path, device, weights)
