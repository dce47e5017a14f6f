"""A trained detector: from an image to its detections, from a model file to a detector, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from detector.boxes import Boxes
from detector.build import ADDED, Proposer, added_contents, build_added, build_from_model, tile_proposer
from detector.datasets.dataset import Annotation, shortened
from detector.detection_model import DetectionModel
from detector.detections import Detections
from detector.features.cache import FeatureCache
from detector.heads.calibration import Calibration
from detector.images.files import ImageLike
from detector.model_file import BACKBONE, DEFAULT_MODEL, DETECTOR, ModelContents, read_model, write_model
from detector.runtime.openvino import Runtime
from detector.scoring import BoxScorer, detect_in_caches, detect_in_image, joint_calibration
from detector.thresholds import Thresholds
from detector.tiles import Tiles, parse_tiles


@dataclass(frozen=True, eq=False)
class Detector(BoxScorer, DetectionModel):
    """A trained detector; see `BoxScorer` for its parts.

    class_names: names of the labels 0..K-1; those of the heads first, then those of ``added``.
    added: detectors of classes that were added later. They share encoder and proposals, and have heads of their own, so
        that no bit of the other classes' results changes.
    Raises ValueError for parts that do not fit together.
    """

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
        return detect_in_image(self.detectors, image, boxes, thresholds, max_detections)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Accuracy when the model was trained: ``{"metric": "area", "mAP": 0.82, "AP": {..}, ..}``, or empty."""
        return self.record.get("cross_validation") or {}

    def detect_cached(self, cache: FeatureCache, annotation: Annotation) -> Detections:
        """Detect in an image of a data set all that reaches the recipe's ``min_score``.

        Features come from ``cache``; missing ones are computed and stored.
        """
        return detect_in_caches([(each, cache) for each in self.detectors], annotation)

    def with_detection(self, **settings: Any) -> Detector:
        """Return a copy with other settings of `DetectionConfig`. Raises ValueError for invalid ones."""
        added = tuple(each.with_detection(**settings) for each in self.added)
        return replace(super().with_detection(**settings), added=added)

    def with_tiles(self, tiles: Tiles) -> Detector:
        """Return a copy that cuts images into these tiles; see `DetectionModel.with_tiles`."""
        return self.with_detection(tiles=parse_tiles(tiles))

    def cache(self, directory: Path, precomputed: Mapping[str, Boxes] | None = None) -> FeatureCache:
        """Open the cache under ``directory`` of this detector's feature maps and proposals, or ``precomputed`` boxes.

        Proposals are stored under the recipe's proposal settings: a detector whose ``propose`` is not the recipe's
        needs a `FeatureCache` with settings of its own, or ``precomputed`` boxes.
        """
        settings, in_tile = self.config.proposals.cache_settings, tile_proposer(self.propose)
        return FeatureCache(directory, self.encoder, self.propose, settings, precomputed, in_tile)

    @property
    def contents(self) -> ModelContents:
        """All that a model file holds, the weights of the backbone included."""
        backbone = self.encoder.backbone
        own = {**self.heads.to_arrays(), **{f"{BACKBONE}.{name}": each for name, each in backbone.tensors.items()}}
        parts = [(each.heads, each.class_names, each.config, each.record) for each in self.added]
        arrays, added = added_contents(self.heads.layers, parts)
        recipe = self.config.model_dump(mode="json")
        more = {ADDED: added} if added else {}
        return ModelContents({**own, **arrays}, self.class_names, recipe, backbone.digest, self.record, more)

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
