"""Classes added to a trained detector and taken out of it; all others keep their weights to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from detector.heads.linear import BoxRegressors, LinearSVMs
from detector.pipeline import Detector

_OF_ALL_CLASSES = ("mAP", "metric", "evaluated_on", "evaluated_images")


def add_classes(detector: Detector, added: Detector) -> Detector:
    """A detector of the classes of both, those of ``added`` last; both must be of one recipe and the same layers.

    The record tells what the new classes were trained on, and no longer how well the old ones did. Raises ValueError
    for a class that is in both, and where only one of them moves its boxes.
    """
    for name in added.class_names:
        check_new(detector, name)
    if (detector.regressors is None) != (added.regressors is None):
        raise ValueError("one of the models has box regressors and the other has none")
    weights = [_svms(each).weights for each in (detector, added)]
    biases = [_svms(each).biases for each in (detector, added)]
    regressors = None
    if detector.regressors is not None and added.regressors is not None:
        regressors = BoxRegressors(
            np.concatenate([detector.regressors.weights, added.regressors.weights]),
            np.concatenate([detector.regressors.biases, added.regressors.biases]),
        )
    svms = LinearSVMs(np.concatenate(weights, axis=1), np.concatenate(biases))
    names = (*detector.class_names, *added.class_names)
    record = _record(detector)
    record["added"] = {**record.get("added", {}), **{name: dict(added.record) for name in added.class_names}}
    # half of the classes with probabilities would be of no use
    both = detector.calibration is not None and added.calibration is not None
    calibration = detector.calibration + added.calibration if both else None  # type: ignore[operator]
    learned: dict[str, Any] = {"scorer": svms, "regressors": regressors, "calibration": calibration}
    return replace(detector, **learned, class_names=names, record=record)


def check_new(detector: Detector, name: str) -> None:
    """Raise ValueError when the detector has a class of that name, or can have no other."""
    _svms(detector)
    if name in detector.class_names:
        raise ValueError(f"the model has the class {name!r} already; remove it first")


def remove_class(detector: Detector, name: str) -> Detector:
    """The detector without one class. Raises ValueError when it has none of that name, or no other."""
    if name not in detector.class_names:
        raise ValueError(f"the model has no class {name!r}; it has {', '.join(detector.class_names)}")
    if len(detector.class_names) == 1:
        raise ValueError(f"{name!r} is the model's only class")
    left = [label for label, other in enumerate(detector.class_names) if other != name]
    svms = _svms(detector)
    svms = LinearSVMs(np.ascontiguousarray(svms.weights[:, left]), svms.biases[left])
    regressors = detector.regressors
    if regressors is not None:
        regressors = BoxRegressors(regressors.weights[left], regressors.biases[left])
    record = _record(detector)
    if "added" in record:
        record["added"] = {other: note for other, note in record["added"].items() if other != name}
    names = tuple(detector.class_names[label] for label in left)
    calibration = detector.calibration and detector.calibration.of_classes(left)
    learned: dict[str, Any] = {"scorer": svms, "regressors": regressors, "calibration": calibration}
    return replace(detector, **learned, class_names=names, record=record)


def _svms(detector: Detector) -> LinearSVMs:
    if not isinstance(detector.scorer, LinearSVMs):
        raise ValueError("the classes of a softmax are learned together: train the model again")
    return detector.scorer


def _record(detector: Detector) -> dict[str, Any]:
    record: Mapping[str, Any] = detector.record
    return {key: value for key, value in record.items() if key not in _OF_ALL_CLASSES}
