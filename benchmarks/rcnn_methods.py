"""Methods that rcnn.py compares: features of boxes, and detectors trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.crops import CONTEXT, LEVELS, SIDE, CropCache, CropEncoder
from detector.build import build_encoder, build_proposer
from detector.cli.console import progress
from detector.config.detector import Config, FeatureConfig, ProposalConfig, RegressionConfig
from detector.datasets.dataset import Dataset
from detector.detections import Detections
from detector.evaluation.voc import evaluate_voc
from detector.features.cache import FeatureCache
from detector.features.encoder import Encoder
from detector.features.pooling import PAPER_LEVELS
from detector.heads.linear import LinearSVMs
from detector.runtime.array_files import stored_arrays, write_arrays
from detector.runtime.files import fingerprint
from detector.training.train import train

RCNN = "R-CNN"
FIVE = (480, 576, 688, 864, 1200)
_FIELDS = ("counts", "boxes", "labels", "scores", "weights", "biases")
HELD_OUT = 5
"""Every fifth training image is held out to select C."""


@dataclass(frozen=True)
class Method:
    """SPP at ``short_sides``, or R-CNN without.

    levels, margin, target: as in a recipe's `features`. context: pixels around a box in R-CNN's crop. square: crops
    keep the aspect of the image; otherwise boxes become square.
    """

    short_sides: tuple[int, ...] = ()
    levels: tuple[int, ...] = PAPER_LEVELS
    margin: float = 0.0
    target: float = 224.0
    context: int = CONTEXT
    square: bool = False


METHODS = {
    "SPP, 1 scale": Method((688,)),
    "SPP, 5 scales": Method(FIVE),
    RCNN: Method(),
    # one difference at a time between the two
    "SPP, 6 x 6 alone": Method(FIVE, levels=LEVELS),
    "SPP, 18 px around": Method(FIVE, margin=18.0),  # as wide a strip as R-CNN has, of boxes of 224 px
    "SPP, objects of 195 px": Method((*FIVE, 1600, 2000, 2600), target=SIDE - 2.0 * CONTEXT),
    "R-CNN, nothing around": Method(context=0),
    "R-CNN, not warped": Method(square=True),
}
USUAL = ("SPP, 1 scale", "SPP, 5 scales", RCNN)


def recipe(method: Method, features: FeatureConfig, given: Config, max_boxes: int, times_c: float = 1) -> Config:
    """Return the recipe of a method: the given one with its network and up to ``max_boxes`` proposals per image."""
    changes: dict[str, object] = {"short_sides": method.short_sides or (SIDE,), "margin": method.margin}
    changes |= {"levels": method.levels if method.short_sides else LEVELS, "target": method.target}
    return Config(
        features=features.model_copy(update=changes),
        proposals=ProposalConfig(max_boxes=max_boxes),
        svm=given.svm.model_copy(update={"C": given.svm.C * times_c}),
        regression=RegressionConfig(enabled=False),
        calibration=given.calibration.model_copy(update={"enabled": False}),
    )


def encoder_of(method: Method, features: FeatureConfig) -> Encoder:
    encoder = build_encoder(features)
    if method.short_sides:
        return encoder
    return CropEncoder(encoder.backbone, encoder.normalize, context=method.context, square=method.square)


@dataclass(frozen=True)
class Found:
    """Trained SVMs, and their detections image by image."""

    svms: LinearSVMs
    detections: list[Detections]


@dataclass(frozen=True)
class Comparison:
    """Data and folder of a comparison, which keeps all detections."""

    train_set: Dataset
    test_set: Dataset
    work: Path

    def cache(self, method: Method, config: Config) -> FeatureCache:
        """Open the cache of maps or rows of both sets, and of their proposals."""
        encoder, propose = encoder_of(method, config.features), build_proposer(config.proposals)
        cache = FeatureCache(self.work, encoder, propose, config.proposals.cache_settings)
        if method.short_sides:
            return cache
        boxes = {each.image_id: each.boxes for each in (*self.train_set, *self.test_set)}
        return CropCache(self.work, encoder, propose, cache.proposal_settings, ground_truth=boxes)

    def best_c(self, method: Method, configs: Mapping[float, Config]) -> float:
        """Return the factor of C whose recipe is best on held-out training images."""
        if len(configs) == 1:
            return next(iter(configs))
        every = self.train_set.annotations
        test = replace(self.train_set, annotations=every[::HELD_OUT])
        rest = tuple(each for row, each in enumerate(every) if row % HELD_OUT)
        held_out = replace(self, train_set=replace(self.train_set, annotations=rest), test_set=test)
        precisions = {c: held_out.precision(method, config) for c, config in configs.items()}
        return max(precisions, key=lambda c: precisions[c])

    def precision(self, method: Method, config: Config) -> float:
        """Return the mAP (VOC07)."""
        detections = self.found(method, config).detections
        return evaluate_voc(detections, self.test_set, self.test_set.class_names, "voc07").mAP

    def found(self, method: Method, config: Config) -> Found:
        """Train on one set and detect in the other, or load the stored result."""
        named = {
            "method": asdict(method),
            "config": config.model_dump(mode="json"),
            "sets": [[each.image_id for each in dataset] for dataset in (self.train_set, self.test_set)],
        }
        file = self.work / f"found-{fingerprint(named)}.safetensors"
        names = self.train_set.class_names
        if (stored := stored_arrays(file, needs=_FIELDS)) is not None:
            arrays: dict[str, Any] = stored[0]
            ends = np.cumsum(arrays["counts"])[:-1]
            boxes, labels, scores = (np.split(arrays[name], ends) for name in ("boxes", "labels", "scores"))
            detections = [Detections(*each, names) for each in zip(boxes, labels, scores, strict=True)]
            return Found(LinearSVMs(arrays["weights"], arrays["biases"]), detections)
        cache = self.cache(method, config)
        detector = train(config, self.train_set, names, cache, progress)
        assert isinstance(detector.heads.scorer, LinearSVMs)
        found = [detector.detect_cached(cache, each) for each in progress(self.test_set, "detect")]
        columns = [np.concatenate([getattr(each, name) for each in found]) for name in ("boxes", "labels", "scores")]
        counts = np.array([len(each.labels) for each in found], np.int64)
        kept = (counts, *columns, detector.heads.scorer.weights, detector.heads.scorer.biases)
        write_arrays(file, dict(zip(_FIELDS, kept, strict=True)), {})
        return Found(detector.heads.scorer, found)
