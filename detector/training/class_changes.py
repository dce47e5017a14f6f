"""Add classes to a trained detector and remove them; the weights of all other classes stay bit-identical."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from detector.heads.linear import BoxRegressors, LinearSVMs
from detector.pipeline import Detector

_OF_ALL_CLASSES = ("mAP", "metric", "evaluated_on", "evaluated_images")
"""Keys of a record that hold only for the classes that were evaluated."""


def add_classes(detector: Detector, added: Detector) -> Detector:
    """Return a detector with the classes of both, those of ``added`` last; recipe and layers must be the same.

    The record says what the new classes were trained on, and drops how well the old ones did. The calibration stays
    only if both have one. Raises ValueError for a class that is in both, and if only one has box regressors.
    """
    for name in added.class_names:
        check_new(detector, name)
    old, new = detector.heads, added.heads
    if (old.regressors is None) != (new.regressors is None):
        raise ValueError("one of the models has box regressors and the other has none")
    svms = LinearSVMs(
        np.concatenate([_svms(each).weights for each in (detector, added)], axis=1),
        np.concatenate([_svms(each).biases for each in (detector, added)]),
    )
    regressors = None
    if old.regressors is not None and new.regressors is not None:
        regressors = BoxRegressors(
            np.concatenate([old.regressors.weights, new.regressors.weights]),
            np.concatenate([old.regressors.biases, new.regressors.biases]),
        )
    calibration = None
    if old.calibration is not None and new.calibration is not None:
        calibration = old.calibration + new.calibration
    record = _record(detector)
    record["added"] = {**record.get("added", {}), **{name: dict(added.record) for name in added.class_names}}
    heads = replace(old, scorer=svms, regressors=regressors, calibration=calibration)
    return replace(detector, heads=heads, class_names=(*detector.class_names, *added.class_names), record=record)


def check_new(detector: Detector, name: str) -> None:
    """Raise ValueError if the detector has a class of that name, or classes cannot be added to it."""
    _svms(detector)
    if name in detector.class_names:
        raise ValueError(f"the model has the class {name!r} already; remove it first")


def remove_class(detector: Detector, name: str) -> Detector:
    """Return the detector without one class. Raises ValueError if it has no such class, or no other."""
    if name not in detector.class_names:
        raise ValueError(f"the model has no class {name!r}; it has {', '.join(detector.class_names)}")
    if len(detector.class_names) == 1:
        raise ValueError(f"{name!r} is the model's only class")
    kept = [label for label, other in enumerate(detector.class_names) if other != name]
    heads, svms = detector.heads, _svms(detector)
    regressors = heads.regressors
    if regressors is not None:
        regressors = BoxRegressors(regressors.weights[kept], regressors.biases[kept])
    record = _record(detector)
    if "added" in record:
        record["added"] = {other: note for other, note in record["added"].items() if other != name}
    heads = replace(
        heads,
        scorer=LinearSVMs(np.ascontiguousarray(svms.weights[:, kept]), svms.biases[kept]),
        regressors=regressors,
        calibration=heads.calibration and heads.calibration.of_classes(kept),
    )
    return replace(detector, heads=heads, class_names=tuple(detector.class_names[k] for k in kept), record=record)


def _svms(detector: Detector) -> LinearSVMs:
    if not isinstance(detector.heads.scorer, LinearSVMs):
        raise ValueError("the model scores with a softmax, whose classes are trained together: train the model again")
    return detector.heads.scorer


def _record(detector: Detector) -> dict[str, Any]:
    return {key: value for key, value in detector.record.items() if key not in _OF_ALL_CLASSES}
