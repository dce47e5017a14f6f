"""Add classes to a trained detector and remove them; no bit of the results of the other classes changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from detector.config.detector import AdaptationConfig, Config, load_config
from detector.datasets.dataset import Dataset
from detector.features.cache import FeatureCache
from detector.pipeline import Detector
from detector.runtime.progress import Progress, no_progress
from detector.training.train import CROSS_VALIDATION, train

_OF_ALL_CLASSES = ("mAP", "metric", "evaluated_on", "evaluated_images", CROSS_VALIDATION)
"""Keys of a record that hold only for the classes that were evaluated."""
_ADDED = "added"
"""Key of a record for those of added classes, by name."""


def train_class(
    detector: Detector, dataset: Dataset, cache: FeatureCache, progress: Progress = no_progress
) -> Detector:
    """Train a detector of the classes of ``dataset`` on the feature maps of ``detector``, for `add_classes`.

    Its SVMs read pooled features or, if the detector has fc layers and cross-validation prefers them, their output.
    Recipe: that of own data, with the proposals and features of the detector. Raises the errors of `train`.
    """
    config = recipe_of_added(detector)
    candidates = [train(config, dataset, dataset.class_names, cache, progress)]
    if detector.heads.layers is not None:
        layers = detector.heads.layers
        candidates.append(train(config, dataset, dataset.class_names, cache, progress, layers))
    return max(candidates, key=_measured)


def recipe_of_added(detector: Detector) -> Config:
    """Return the recipe of classes that are added to a detector."""
    config = load_config("default")
    own = detector.config.detection
    detection = config.detection.model_copy(update={"nms_iou": own.nms_iou, "tiles": own.tiles})
    changed = {
        "features": detector.config.features,
        "proposals": detector.config.proposals,
        "adaptation": AdaptationConfig(),
        "detection": detection,
    }
    return config.model_copy(update=changed)


def _measured(detector: Detector) -> float:
    """Return the cross-validated mAP; -1 for none."""
    value = detector.record.get(CROSS_VALIDATION, {}).get("mAP")
    return -1.0 if value is None else float(value)


def add_classes(detector: Detector, added: Detector) -> Detector:
    """Return a detector with the classes of both, those of ``added`` last; they must share the feature maps.

    The record says what the new classes were trained on, and drops how well all classes did before. Raises ValueError
    for a class that is in both, and for other feature maps.
    """
    for name in added.class_names:
        check_new(detector, name)
    if added.encoder.backbone.digest != detector.encoder.backbone.digest:
        raise ValueError("the added classes were trained on the feature maps of another network")
    parts = [replace(each, propose=detector.propose, encoder=detector.encoder) for each in added.detectors]
    return _composed([*detector.detectors, *parts])


def check_new(detector: Detector, name: str) -> None:
    """Raise ValueError if the detector has a class of that name."""
    if name in detector.class_names:
        raise ValueError(f"the model has the class {name!r} already; remove it first")


def remove_class(detector: Detector, name: str) -> Detector:
    """Return the detector without one class. Raises ValueError if it has no such class, or no other."""
    if name not in detector.class_names:
        raise ValueError(f"the model has no class {name!r}; it has {', '.join(detector.class_names)}")
    if len(detector.class_names) == 1:
        raise ValueError(f"{name!r} is the model's only class")
    return _composed([kept for each in detector.detectors if (kept := _without(each, name)) is not None])


def _composed(parts: Sequence[Detector]) -> Detector:
    """Return one detector of the classes of several, which share proposals and feature maps."""
    first, *added = parts
    names = tuple(name for each in parts for name in each.class_names)
    record = {key: value for key, value in first.record.items() if key not in (*_OF_ALL_CLASSES, _ADDED)}
    if added:
        records = [{key: value for key, value in each.record.items() if key != _ADDED} for each in added]
        record[_ADDED] = {name: own for each, own in zip(added, records, strict=True) for name in each.class_names}
    return replace(first, class_names=names, record=record, added=tuple(added))


def _without(part: Detector, name: str) -> Detector | None:
    """Return a detector without a class, itself if it has no such class; None if no other is left."""
    kept = [label for label, other in enumerate(part.class_names) if other != name]
    if len(kept) == len(part.class_names):
        return part
    names = tuple(part.class_names[label] for label in kept)
    return replace(part, heads=part.heads.select(kept), class_names=names) if kept else None
