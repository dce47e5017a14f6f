"""Rounds of training: samples follow the labels, and the result is that of a training on all images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.datasets.dataset import Annotation, Dataset
from detector.evaluation.held_out import measure_held_out
from detector.teaching.learner import Learner
from detector.teaching.quality import Quality, cross_validate_stepwise
from detector.training.training_set import TrainingSet


def learner_of(images: TrainingSet, config: object) -> Learner:
    return Learner(images.cache, config)  # type: ignore[arg-type]


def _relabeled(image: Annotation, rows: NDArray[np.bool_], label: int) -> Annotation:
    labels = np.full(rows.sum(), label, np.int64)
    return replace(image, boxes=image.boxes[rows], labels=labels, difficult=image.difficult[rows])


@pytest.mark.all
def test_rounds_reach_what_one_training_reaches(
    images: TrainingSet, config: object, train_set: Dataset, test_set: Dataset
) -> None:
    stepwise = learner_of(images, config)
    for count in (2, 3, 7, 12):  # the third scales the features again
        trained = stepwise.learn(train_set.annotations[:count], train_set.class_names) or None
    assert trained is not None
    found = [stepwise.detector(trained).detect_cached(images.cache, each) for each in test_set]
    assert measure_held_out(found, test_set, "area", resamples=10).mAP > 0.6
    steps = list(cross_validate_stepwise(stepwise.detector(trained), trained, images.cache))
    assert steps[:-1] == [None] * 13  # the fits, then 12 images
    quality = steps[-1]
    assert isinstance(quality, Quality)
    assert quality.report["measured"] == quality.report["images"] == 12
    assert 0.3 < quality.report["AP50"] <= 1
    assert quality.calibration is not None


def test_samples_follow_the_labels(images: TrainingSet, config: object, train_set: Dataset) -> None:
    learner = learner_of(images, config)
    three = list(train_set.annotations[:3])
    trained = learner.learn(three, train_set.class_names)
    assert trained is not None
    positives = (trained.buffer.targets > 0).sum(0)
    assert positives.tolist() == trained.images.object_counts().tolist()
    # an image without its boxes keeps no positive, an image that is gone no sample
    none = three[0].boxes[:0], three[0].labels[:0], three[0].difficult[:0]
    emptied = Annotation(three[0].image_id, three[0].path, *none)
    trained = learner.learn([*three[1:], emptied, train_set[3]], train_set.class_names)
    assert trained is not None
    positives = (trained.buffer.targets > 0).sum(0)
    assert positives.tolist() == trained.images.object_counts().tolist()
    assert set(trained.buffer.keys[:, 0].tolist()) == {0, 1, 2, 3}
    assert not (trained.buffer.targets[trained.buffer.keys[:, 0] == 2] > 0).any()


def test_a_new_class_takes_all_earlier_samples_as_negatives(
    images: TrainingSet, config: object, train_set: Dataset
) -> None:
    without = next(each for each in train_set if len(each.labels) and 2 not in each.labels)
    first = next(label for label in (0, 1) if label in without.labels)
    rows = without.labels == first
    one = _relabeled(without, rows, 0)
    other = next(each for each in train_set if 2 in each.labels)
    rows = other.labels == 2
    two = _relabeled(other, rows, 1)
    learner = learner_of(images, config)
    assert learner.learn([one], ["first", "second"]) is None
    assert learner.learn([], []) is None
    assert learner.learn([one], ["first"]) is not None
    trained = learner.learn([one, two], ["first", "second"])
    assert trained is not None
    of_first = trained.buffer.keys[:, 0] == 0
    assert (trained.buffer.targets[of_first, 1] == -1).all()
    assert (trained.buffer.targets[~of_first, 1] == 1).sum() == rows.sum()
    assert trained.svms.n_classes == 2
