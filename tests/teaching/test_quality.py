"""What a cross-validation of a round says: probabilities of its own, doubts by them, and confusions the right way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.config.detector import Config
from detector.datasets.dataset import Annotation, Dataset
from detector.pipeline import Detector
from detector.teaching.learner import Learner
from detector.teaching.quality import Quality, cross_validate_stepwise
from detector.training.calibration import with_calibration
from detector.training.svm.training import TrainedSVMs
from detector.training.training_set import TrainingSet
from tests.composites import calibration

CIRCLE, SQUARE, TRIANGLE = range(3)
N_IMAGES = 12


@pytest.fixture(scope="module")
def learned(images: TrainingSet, config: Config, train_set: Dataset) -> tuple[Detector, TrainedSVMs]:
    """A round on twelve images, where the last square of all is labeled as a circle."""
    annotations: list[Annotation] = [*train_set.annotations[:N_IMAGES]]
    row = max(row for row, each in enumerate(annotations) if SQUARE in each.labels)
    labels = annotations[row].labels.copy()
    labels[np.flatnonzero(labels == SQUARE)[-1]] = CIRCLE
    annotations[row] = replace(annotations[row], labels=labels)
    learner = Learner(images.cache, config)
    trained = learner.learn(annotations, train_set.class_names)
    assert trained is not None
    return learner.detector(trained), trained


def measured(detector: Detector, trained: TrainedSVMs, images: TrainingSet) -> Quality:
    *_, quality = cross_validate_stepwise(detector, trained, images.cache)
    assert isinstance(quality, Quality) and quality.held_out is not None
    return quality


def test_a_wrong_label_is_doubted_with_its_probability(
    learned: tuple[Detector, TrainedSVMs], images: TrainingSet
) -> None:
    report = measured(*learned, images).report
    assert {"label": "circle", "taken_for": "square", "count": 1} in report["confusions"]
    (doubt,) = [each for each in report["doubts"] if each["kind"] == "other class"]
    assert doubt["line"].startswith("labeled circle: square ") and " % at " in doubt["line"]


def test_an_earlier_calibration_changes_nothing(learned: tuple[Detector, TrainedSVMs], images: TrainingSet) -> None:
    detector, trained = learned
    plain = measured(detector, trained, images)
    calibrated = with_calibration(detector, calibration([5.0] * 3, [-9.0] * 3))
    again = measured(calibrated, trained, images)
    assert again.report == plain.report
    assert plain.held_out is not None and again.held_out is not None
    assert all(each.probabilities is None for each in (*plain.held_out.detections, *again.held_out.detections))
