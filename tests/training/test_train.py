"""From a data set to a detector, with the real network on synthetic images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from detector.build import build_cache
from detector.config.detector import Config, FineTuningConfig, parse_config
from detector.datasets.dataset import Dataset
from detector.evaluation.voc import evaluate_voc
from detector.images.files import read_image
from detector.pipeline import Detector
from detector.training.end_to_end.fc_layers import fine_tune_layers
from detector.training.svm.mining import MiningState, load_state, save_state
from detector.training.svm.sample_buffer import SampleBuffer
from detector.training.train import train
from detector.training.training_set import TrainingSet
from tests.fakes import CONFIG


def test_samples_take_a_bounded_memory(train_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "detector.training.svm.training._BUFFER_BYTES", 2 * 500 * (9 + 1) * 320
    )  # 3 x 3 and 1 bins of 320 channels
    config = parse_config(CONFIG, "test")
    with pytest.raises(ValueError, match=r"2\.5 GB hold 500 samples, but these objects need at least 24\d\d"):
        train(config, train_set, train_set.class_names, build_cache(config, tmp_path))


def test_too_few_samples_for_the_objects_are_named_before_any_work(train_set: Dataset, tmp_path: Path) -> None:
    config = parse_config({**CONFIG, "svm": {**CONFIG["svm"], "max_samples": 500}}, "test")
    with pytest.raises(ValueError, match=r"svm\.max_samples is 500, but these objects need at least 24\d\d"):
        train(config, train_set, train_set.class_names, build_cache(config, tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_trained_detector_finds_objects_of_new_images(detector: Detector, test_set: Dataset) -> None:
    found = [detector.detect(read_image(each.path), min_score=-1.5) for each in test_set]
    result = evaluate_voc(found, test_set, test_set.class_names)
    assert result.mAP > 0.8


def test_classes_without_objects_are_named_before_any_work(train_set: Dataset, config: Config, tmp_path: Path) -> None:
    cache = build_cache(config, tmp_path / "cache")
    with pytest.raises(ValueError, match="no object to train on in 24 images: star, cross"):
        train(config, train_set, (*train_set.class_names, "star", "cross"), cache)
    assert not (tmp_path / "cache").exists()


def test_training_twice_gives_the_same_model(
    detector: Detector, train_set: Dataset, config: Config, images: TrainingSet, tmp_path: Path
) -> None:
    detector.save(tmp_path / "a")
    train(config, train_set, train_set.class_names, images.cache).save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("fit", [1, pytest.param(2, marks=pytest.mark.all)])
def test_a_killed_training_goes_on_to_the_same_model(
    detector: Detector,
    train_set: Dataset,
    config: Config,
    images: TrainingSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fit: int,
) -> None:
    saved: list[Path] = []

    def save_and_die(path: Path, state: MiningState) -> None:
        save_state(path, state)
        saved.append(path)
        if len(saved) == fit:
            raise KeyboardInterrupt

    monkeypatch.setattr("detector.training.svm.training.save_state", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(config, train_set, train_set.class_names, images.cache)
    monkeypatch.undo()
    state = load_state(saved[0], images, SampleBuffer(5000, images.n_features, 3))
    assert state is not None and state.svms is not None and state.buffer.size > 0
    train(config, train_set, train_set.class_names, images.cache).save(tmp_path / "resumed")
    detector.save(tmp_path / "undisturbed")
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "undisturbed").read_bytes()
    assert not saved[0].exists()


def test_a_damaged_checkpoint_is_not_used(
    images: TrainingSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint"
    assert load_state(path, images, SampleBuffer(10, 3200, 3)) is None
    path.write_bytes(b"damage")
    assert load_state(path, images, SampleBuffer(10, 3200, 3)) is None
    assert f"{path}: is damaged" in caplog.text


FINE_TUNING = {"enabled": True, "width": 64, "iterations": 256, "batch_size": 64, "lr": 0.02, "held_out": 0.2}


@pytest.mark.parametrize("head", [pytest.param("svm", marks=pytest.mark.all), "softmax"])
def test_fine_tuned_layers_detect_and_come_back_from_a_file(
    head: str, train_set: Dataset, test_set: Dataset, images: TrainingSet, tmp_path: Path
) -> None:
    """Both heads on the same fine-tuned layers, which are trained once; regressors on either kind of features."""
    kind = {"svm": "layer", "softmax": "pooled"}[head]
    tuning = {**FINE_TUNING, "head": head}
    recipe = {**CONFIG, "fine_tuning": tuning, "regression": {"features": kind}}
    config = parse_config(recipe, "test")
    detector = train(config, train_set, train_set.class_names, images.cache)
    found = [detector.detect(read_image(each.path), min_score=-1.5) for each in test_set]
    result = evaluate_voc(found, test_set, test_set.class_names)
    assert result.mAP > 0.5
    detector.save(tmp_path / "model.safetensors")
    again = Detector.load(tmp_path / "model.safetensors").detect(read_image(test_set[0].path), min_score=-1.5)
    np.testing.assert_array_equal(again.scores, found[0].scores)
    np.testing.assert_array_equal(again.boxes, found[0].boxes)
    assert len(list(images.cache.directory.glob("fine-tuning-*"))) == 1


def test_initial_layers_are_checked_before_any_work(train_set: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "classifier.safetensors"
    content = {**CONFIG, "fine_tuning": {**FINE_TUNING, "initial": str(file)}}
    config = parse_config({**content, "features": {**CONFIG["features"], "levels": [3, 1]}}, "test")
    cache = build_cache(config, tmp_path / "cache")
    with pytest.raises(OSError, match=r"classifier\.safetensors"):
        train(config, train_set, train_set.class_names, cache)
    assert config.files() == {}
    fc6, fc7 = np.zeros((8, 9 * 320), np.float32), np.zeros((8, 8), np.float32)
    tensors = {"classifier.1.weight": fc6, "classifier.4.weight": fc7}
    save_file({**tensors, "classifier.1.bias": fc6[:, 0].copy(), "classifier.4.bias": fc7[0]}, file)
    with pytest.raises(ValueError, match=r"fine_tuning\.width must be 8, that of the initial layers, but is 64"):
        train(config, train_set, train_set.class_names, cache)
    first = config.files()
    save_file({"other": fc6}, file)
    assert first.keys() == config.files().keys() == {str(file)}
    assert first != config.files()
    assert not (tmp_path / "cache").exists()


def test_one_image_cannot_be_held_out_from_itself(images: TrainingSet, train_set: Dataset, tmp_path: Path) -> None:
    one = replace(images, annotations=train_set.annotations[:1])
    with pytest.raises(ValueError, match="needs two images with objects, one to hold out, but there is 1"):
        fine_tune_layers(one, FineTuningConfig(), tmp_path / "state.safetensors")
