"""The detector as a whole: compose its stages, detect, save to a file and load from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes, clip, decode_deltas
from detector.config import Config, FeatureConfig, ProposalConfig, parse_config
from detector.detections import Detections, select, suppress
from detector.features.backbones import load_backbone
from detector.features.encoder import FeatureMaps, RegionEncoder
from detector.features.normalisation import signed_power
from detector.files import read_arrays, write_arrays
from detector.heads.regression import BoxRegressors
from detector.heads.svm import LinearSVMs
from detector.image import check_image
from detector.proposals.selective_search import selective_search
from detector.refinement import SAME_OBJECT, Refiner, vote
from detector.timing import stage

Proposer = Callable[[NDArray[np.uint8]], Boxes]

_FORMAT = "spp-detector 1"


def build_proposer(config: ProposalConfig) -> Proposer:
    """The source of boxes that a recipe names: image to ``(R, 4)`` boxes."""
    propose: Callable[..., Boxes] = selective_search
    settings = config.model_dump(exclude={"source"})
    if config.source == "selectivesearch":
        from detector.proposals.sources import selectivesearch_package as propose

        settings = config.model_dump(include={"max_boxes", "min_side"})
    elif config.source == "opencv":
        from detector.proposals.sources import opencv_contrib as propose

        settings = config.model_dump(exclude={"source", "ranking"})
    return partial(propose, **settings)


def build_encoder(config: FeatureConfig, device: str = "cpu") -> RegionEncoder:
    """Network, scales, mapping and pyramid of a recipe; ``device`` is torch's name of one."""
    return RegionEncoder(
        load_backbone(config.backbone, config.stage, config.weights, device, config.precision),
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
    svms: LinearSVMs
    regressors: BoxRegressors | None
    class_names: tuple[str, ...]
    config: Config = field(default_factory=Config)
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = (self.encoder.n_features, len(self.class_names))
        if self.svms.weights.shape != expected:
            raise ValueError(f"SVM weights must have shape {expected}, but got {self.svms.weights.shape}")
        if self.regressors is not None and self.regressors.weights.shape != (*expected[::-1], 4):
            raise ValueError(
                f"regressor weights must have shape {(*expected[::-1], 4)}, but got {self.regressors.weights.shape}"
            )

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
        the regressor of their class, clipped to the picture and suppressed again (release: spp_test, bbox); or,
        where the recipe asks for refinements, moved and scored anew before (see `refinement`).
        """
        image = check_image(image)
        with stage("proposals"):
            boxes = self.propose(image) if boxes is None else as_boxes(boxes)
        if len(boxes) == 0:
            return Detections.empty(self.class_names)
        return self.detect_in_maps(self.encoder.maps(image, boxes), boxes, min_score, max_detections)

    def detect_in_maps(
        self,
        maps: FeatureMaps,
        boxes: Boxes,
        min_score: float | None = None,
        max_detections: int | None = None,
    ) -> Detections:
        """`detect` for a picture whose feature maps and ``(R, 4)`` boxes are there already."""
        settings = self.config.detection
        min_score = settings.min_score if min_score is None else min_score
        max_detections = settings.max_detections if max_detections is None else max_detections
        with stage("pooling and scores"):
            scores = self.encoder.apply(self.svms.decision_function, maps, self.encoder.windows(maps, boxes))
        if self.regressors is not None and settings.refinements:
            found = self._refined(maps, boxes, scores, min(min_score, settings.min_score))
            return found.above(min_score).top(max_detections)
        with stage("suppression"):
            found = select(boxes, scores, self.class_names, min_score, settings.nms_iou, max_detections)
        if self.regressors is None or not len(found):
            return found
        with stage("box regression"):
            features = self.encoder.pool(maps, self.encoder.windows(maps, found.boxes))
            moved = decode_deltas(found.boxes, self.regressors.predict(features, found.labels))
            moved = clip(moved, *maps.image_size)
            return suppress(Detections(moved, found.labels, found.scores, self.class_names), settings.nms_iou)

    def _refined(self, maps: FeatureMaps, boxes: Boxes, scores: NDArray[np.float32], least: float) -> Detections:
        assert self.regressors is not None
        settings = self.config.detection
        refine = Refiner(self.encoder, self.svms, self.regressors, settings.refinements)
        with stage("refinement"):
            candidates = refine(maps, boxes, scores, self.class_names, least)
        with stage("suppression"):
            survivors = suppress(candidates, settings.nms_iou).top(settings.max_detections)
            return suppress(vote(survivors, candidates, settings.vote_iou, least), SAME_OBJECT)

    def save(self, path: str | Path) -> None:
        """Write the model to one safetensors file, whole or not at all; the backbone's weights are not in it."""
        arrays = {"svm.weights": self.svms.weights, "svm.biases": self.svms.biases}
        if self.regressors is not None:
            arrays |= {
                "regression.weights": self.regressors.weights,
                "regression.biases": self.regressors.biases,
            }
        description = {
            "class_names": self.class_names,
            "config": self.config.model_dump(mode="json"),
            "backbone_digest": self.encoder.backbone.digest,
            "record": dict(self.record),
        }
        write_arrays(Path(path), dict(arrays), {"format": _FORMAT, **description})

    @classmethod
    def load(cls, path: str | Path | None = None, device: str = "cpu", weights: str | Path | None = None) -> Detector:
        """Load a model file, by default the one that comes with the package.

        ``weights`` is where the backbone's weights are, if not where they were in training. Raises OSError when a
        file cannot be read and ValueError, naming it, when it is no model or does not fit its backbone.
        """
        path = Path(str(files("detector").joinpath("models/default.safetensors"))) if path is None else Path(path)
        arrays, metadata = read_arrays(path)
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"{path}: is no model of this program (format {metadata.get('format')!r})")
        try:
            return cls._from_file(arrays, metadata, device, weights)
        except KeyError as error:
            raise ValueError(f"{path}: lacks {error}") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def _from_file(
        cls,
        arrays: Mapping[str, Any],
        description: Mapping[str, Any],
        device: str,
        weights: str | Path | None,
    ) -> Detector:
        config = parse_config(description["config"], "its configuration")
        features = config.features if weights is None else config.features.model_copy(update={"weights": str(weights)})
        encoder = build_encoder(features, device)
        if encoder.backbone.digest != description["backbone_digest"]:
            raise ValueError(
                f"was trained on other weights of {config.features.backbone} "
                f"({description['backbone_digest'][:12]}) than those loaded ({encoder.backbone.digest[:12]})"
            )
        regressors = None
        if "regression.weights" in arrays:
            regressors = BoxRegressors(arrays["regression.weights"], arrays["regression.biases"])
        return cls(
            build_proposer(config.proposals),
            encoder,
            LinearSVMs(arrays["svm.weights"], arrays["svm.biases"]),
            regressors,
            tuple(description["class_names"]),
            config,
            description["record"],
        )
