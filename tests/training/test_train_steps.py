"""Steps of a training: their features, the cache they need, and mistakes that end it before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.config.detector import Config
from detector.detections import Detections
from detector.heads.fully_connected import FullyConnected, Softmax
from detector.heads.linear import BoxRegressors
from detector.pipeline import Detector
from detector.runtime.progress import no_progress
from detector.training import train as module
from detector.training.calibration import HeldOut
from detector.training.end_to_end import fc_layers
from detector.training.end_to_end.fc_layers import FineTunedLayers
from detector.training.sampling import validation_split
from detector.training.svm import training as svm_training
from detector.training.svm.mining import START_SAMPLES
from detector.training.svm.training import sample_capacity
from detector.training.train import TrainedLayers, cache_features, check_training, scale_features, train
from detector.training.training_set import TrainingSet
from tests.training.recipes import config_of
from tests.training.small import small_set

RED, GREEN, BLUE = [0, 0, 64, 64], [96, 96, 160, 160], [96, 0, 160, 64]
NAMES = ("red", "green", "blue")


@pytest.fixture
def images(tmp_path: Path) -> TrainingSet:
    names = [str(number) for number in range(6)]
    boxes = [[0, 0, 64, 48], [96, 96, 160, 144], [0, 96, 64, 160], [32, 0, 128, 64]]
    return small_set(tmp_path, {name: [(RED, 0), (GREEN, 1), (BLUE, 2)] for name in names}, dict.fromkeys(names, boxes))


def recipe(**sections: Any) -> Config:
    base: dict[str, Any] = {"svm": {"mean_norm": 7.0}, "calibration": {"enabled": False}}
    return config_of(base, sections)


LAYERS = FullyConnected([np.eye(2, 3).astype(np.float16)], [np.ones(2, np.float32)])
SOFTMAX = Softmax(np.zeros((2, 4), np.float32), np.zeros(4, np.float32))
REGRESSORS = BoxRegressors(np.zeros((3, 2, 4), np.float32), np.zeros((3, 4), np.float32))


def mean_norm(images: TrainingSet) -> float:
    rows = [images[index].features(np.arange(len(images[index].targets))) for index in range(len(images))]
    return float(np.linalg.norm(np.concatenate(rows), axis=1).mean())


@pytest.mark.parametrize(
    ("regression", "trained", "svms", "regressors"),
    # whether features are those of the layers, and whether they are scaled
    [
        ({}, TrainedLayers(None), (False, True), (False, True)),
        ({}, TrainedLayers(LAYERS), (True, True), (False, True)),
        ({"features": "layer"}, TrainedLayers(LAYERS), (True, True), (True, True)),
        ({"enabled": False}, TrainedLayers(LAYERS), (True, True), (False, False)),
        ({}, TrainedLayers(LAYERS, SOFTMAX), (True, False), (False, True)),
        # not used
        ({}, TrainedLayers(LAYERS, SOFTMAX, [REGRESSORS]), (True, False), (False, False)),
    ],
)
def test_svms_and_regressors_get_their_features(
    images: TrainingSet, regression: Any, trained: TrainedLayers, svms: tuple[bool, bool], regressors: tuple[bool, bool]
) -> None:
    found = scale_features(recipe(regression=regression), images, trained)
    for each, (layered, scaled) in zip(found, (svms, regressors), strict=True):
        assert each.layers is (LAYERS if layered else None)
        if scaled:
            assert mean_norm(each) == pytest.approx(7.0, rel=1e-4)
        else:
            assert (np.asarray(each.scale).tolist(), np.asarray(each.mean).tolist()) == (1, 0)


def test_features_are_centered_where_the_recipe_says_so(images: TrainingSet) -> None:
    plain, _ = scale_features(recipe(), images, TrainedLayers())
    centered, _ = scale_features(recipe(svm={"center": True, "mean_norm": 7.0}), images, TrainedLayers())
    assert not np.asarray(plain.mean).any()
    assert np.asarray(centered.mean).any()


def cached(config: Config, images: TrainingSet) -> TrainingSet:
    return cache_features(config, images, TrainedLayers(), no_progress)


def test_mirrored_images_are_cached_for_fine_tuning_with_flips(images: TrainingSet) -> None:
    folder = images.cache.directory
    cached(recipe(fine_tuning={"enabled": False, "flips": True}), images)
    assert len(list(folder.glob("maps-*"))) == 1
    cached(recipe(fine_tuning={"enabled": True, "flips": False}), images)
    assert len(list(folder.glob("maps-*"))) == 1
    found = cached(recipe(fine_tuning={"enabled": True, "flips": True}), images)
    assert len(list(folder.glob("maps-*"))) == 2
    assert len(found) == len(images)


def test_classes_are_checked_again_without_unreadable_images(images: TrainingSet) -> None:
    """Of two images one is lost, and with it the only object of a class."""
    first, second = images.annotations[:2]
    red = replace(first, boxes=first.boxes[:2], labels=first.labels[:2], difficult=first.difficult[:2])
    Path(second.path).write_bytes(b"no image")
    few = replace(images, annotations=[red, second])
    check_training(recipe(), few, NAMES)
    with pytest.raises(ValueError, match="no object to train on in 1 images: blue"):
        train(recipe(), few.annotations, NAMES, images.cache)
    kept = cached(recipe(), replace(images, annotations=[first, second]))
    assert [each.image_id for each in kept.annotations] == [first.image_id]


def test_more_objects_than_samples_are_refused_before_any_work(images: TrainingSet) -> None:
    # 18 objects, and a hundred random negatives of each of six images
    n_first = 18 + 6 * START_SAMPLES
    check_training(recipe(svm={"max_samples": n_first}), images, NAMES)
    with pytest.raises(
        ValueError, match=rf"svm\.max_samples is {n_first - 1}, but these objects need at least {n_first}"
    ):
        check_training(recipe(svm={"max_samples": n_first - 1}), images, NAMES)


def test_samples_that_fit_into_memory_depend_on_the_features(
    images: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    svm = recipe().svm
    assert sample_capacity(svm, 1000) == 1_250_000
    assert sample_capacity(recipe(svm={"max_samples": 5}).svm, 1000) == 5
    monkeypatch.setattr(svm_training, "_BUFFER_BYTES", 2 * 620 * 10)
    check_training(recipe(), images, NAMES)  # of 3 features
    tuned = {"enabled": True, "width": 10}
    check_training(recipe(fine_tuning=tuned), images, NAMES)
    with pytest.raises(ValueError, match=r"2\.5 GB hold 476 samples, but these objects need at least 618"):
        check_training(recipe(fine_tuning={**tuned, "width": 13}), images, NAMES)
    # the softmax needs no samples
    check_training(recipe(fine_tuning={"enabled": True, "width": 500, "head": "softmax"}), images, NAMES)


def test_fine_tuned_layers_are_calibrated_on_images_that_they_were_not_shown(
    images: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    layers = [(np.eye(3, dtype=np.float16), np.zeros(3, np.float32))] * 2
    softmax = Softmax(np.zeros((3, 4), np.float32), np.zeros(4, np.float32))
    monkeypatch.setattr(fc_layers, "fine_tune_layers", lambda *_: FineTunedLayers(layers[0], layers[1], softmax))

    def cross_validate(detector: Detector, images: TrainingSet, parts: Any, *_: Any) -> HeldOut:
        seen.append(parts)
        return HeldOut(images.annotations[:1], [Detections.empty(NAMES)])

    monkeypatch.setattr(module, "cross_validate", cross_validate)
    tuning = {"enabled": True, "head": "softmax", "held_out": 0.3, "width": 3}
    config = recipe(fine_tuning=tuning, calibration={"enabled": True}, regression={"enabled": False})
    detector = train(config, images.annotations, NAMES, images.cache)
    assert detector.heads.scorer is softmax and not detector.heads.regressors
    ((part,),) = seen
    assert part.tolist() == validation_split(images, config.fine_tuning)[1].indices.tolist()
    assert len(part) == 2


def test_layers_of_an_earlier_training_are_not_trained_again(
    images: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("tuned again")

    monkeypatch.setattr(fc_layers, "fine_tune_layers", never)
    config = recipe(fine_tuning={"enabled": True}, regression={"features": "layer"})
    detector = train(config, images.annotations, NAMES, images.cache, layers=LAYERS)
    assert detector.heads.layers is LAYERS
    assert detector.heads.to_arrays()["svm.weights"].shape == (2, 3)
    assert [each.weights.shape for each in detector.heads.regressors] == [(3, 2, 4)]
    assert list(images.cache.directory.glob("*.safetensors")) == [], "states go with the end of a training"


def test_a_small_training_separates_its_colors(images: TrainingSet) -> None:
    detector = train(recipe(svm={"C": 0.01}), images.annotations, NAMES, images.cache)
    found = detector.detect(images.annotations[0].path, boxes=images.annotations[0].boxes, min_score=0.0)
    assert sorted(found.labels.tolist()) == [0, 1, 2]
    for box, label in zip(found.boxes, found.labels, strict=True):
        np.testing.assert_allclose(box, [RED, GREEN, BLUE][label], atol=12)
