"""Images and boxes of fine-tuning, and layers that it starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from detector.boxes import as_boxes
from detector.config.detector import CalibrationConfig, FineTuningConfig
from detector.features.encoder import RegionEncoder
from detector.training import calibration
from detector.training.calibration import held_out_parts
from detector.training.end_to_end import fc_layers
from detector.training.end_to_end.fc_layers import fine_tune_layers
from detector.training.sampling import RandomBoxes, sample_boxes, validation_split
from detector.training.training_set import TrainingSet, scaled
from tests.training.small import small_set

RED, GREEN = [0, 0, 64, 64], [96, 96, 160, 160]


@pytest.fixture
def images(tmp_path: Path) -> TrainingSet:
    """Ten images of a red and a green square, and two of nothing."""
    objects: dict[str, Any] = {str(number): [(RED, 0), (GREEN, 1)] for number in range(10)}
    objects |= {"empty": [], "void": []}
    near_red, apart = [0, 0, 64, 48], [96, 0, 160, 64]
    return small_set(tmp_path, objects, {name: [near_red, apart] for name in objects})


def test_most_images_are_trained_on_and_the_others_held_out(images: TrainingSet) -> None:
    config = FineTuningConfig(
        held_out=0.2, seed=1, foreground_fraction=0.4, min_iou=0.6, background_iou=(0.0, 0.3), flips=True
    )
    learners, held_out = validation_split(images, config)
    assert (len(learners), len(held_out)) == (8, 2)
    both = [*learners.indices.tolist(), *held_out.indices.tolist()]
    assert sorted(both) == list(range(10))  # those without objects are left out
    for each in (learners, held_out):
        assert each.images is images
        assert each.indices.tolist() == sorted(each.indices.tolist())
        assert each.config is config
    drawn = {tuple(validation_split(images, config.model_copy(update={"seed": seed}))[1].indices) for seed in range(8)}
    assert len(drawn) > 4
    # at least one, however small the share
    assert len(validation_split(images, config.model_copy(update={"held_out": 0.01}))[1]) == 1


def test_fine_tuning_trains_on_most_images_and_validates_on_the_others(
    images: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    class Stop(Exception):  # noqa: N818 (a signal)
        pass

    def watched(learners: RandomBoxes, validation: RandomBoxes, settings: Any, checkpoint: Path, *rest: Any) -> None:
        seen.extend([learners, validation, settings, checkpoint, rest])
        raise Stop

    monkeypatch.setattr(fc_layers, "LayerTraining", watched)
    config = FineTuningConfig(held_out=0.2, width=5, seed=1)
    with pytest.raises(Stop):
        fine_tune_layers(images, config, tmp_path / "state")
    learners, validation, settings, checkpoint, (precision, device, start) = seen
    expected = validation_split(images, config)
    assert learners.indices.tolist() == expected[0].indices.tolist()
    assert validation.indices.tolist() == expected[1].indices.tolist()
    assert (settings.width, checkpoint, precision, device, start) == (5, tmp_path / "state", "float32", "cpu", [])
    # both see centered values of about 1
    ready = scaled(images, 3**0.5, True, 1)
    for each in (learners, validation):
        np.testing.assert_array_equal(each.images.mean, ready.mean)
        np.testing.assert_array_equal(each.images.scale, ready.scale)


def test_initial_layers_come_back_unchanged_without_learning(images: TrainingSet, tmp_path: Path) -> None:
    """They are for plain features, and are trained on scaled ones: folded in and out they are what they were."""
    random = np.random.default_rng(0)
    fc6, biases = random.standard_normal((4, 3)).astype(np.float32), random.standard_normal(4).astype(np.float32)
    fc7, last = random.standard_normal((4, 4)).astype(np.float32), random.standard_normal(4).astype(np.float32)
    tensors = {"classifier.1.weight": fc6, "classifier.1.bias": biases}
    save_file({**tensors, "classifier.4.weight": fc7, "classifier.4.bias": last}, tmp_path / "classifier")
    config = FineTuningConfig(
        width=4, iterations=1, lr=1e-12, initial=str(tmp_path / "classifier"), batch_size=8, background_iou=(0.0, 0.5)
    )
    tuned = fine_tune_layers(images, config, tmp_path / "state")
    np.testing.assert_allclose(tuned.fc6[0], fc6, atol=3e-3)
    np.testing.assert_allclose(tuned.fc6[1], biases, atol=0.02)  # of values up to 200, in float16
    np.testing.assert_allclose(tuned.fc7[0], fc7, atol=3e-3)
    np.testing.assert_array_equal(tuned.fc7[1], last)


def test_initial_layers_have_the_same_output_for_scaled_features(
    images: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fc6, biases = np.array([[1, 2, 3], [0, -1, 0.5]], np.float32), np.array([4, -5], np.float32)
    monkeypatch.setattr(fc_layers, "initial_layers", lambda *_: [(fc6, biases), (np.eye(2, dtype=np.float32), biases)])
    begun: list[Any] = []

    class Stop(Exception):  # noqa: N818 (a signal)
        pass

    def watched(learners: RandomBoxes, *rest: Any) -> None:
        begun.extend([learners.images, rest[-1]])
        raise Stop

    monkeypatch.setattr(fc_layers, "LayerTraining", watched)
    with pytest.raises(Stop):
        fine_tune_layers(images, FineTuningConfig(width=2), tmp_path / "state")
    ready, ((folded, shifted), _) = begun
    plain = np.array([[200, 0, 0], [0, 10, 150]], np.float32)
    scaled_ones = ready.scale_features(plain.copy())
    assert not np.allclose(scaled_ones, plain)
    np.testing.assert_allclose(scaled_ones @ folded.T + shifted, plain @ fc6.T + biases, rtol=1e-4, atol=1e-3)


def test_boxes_are_pooled_at_random_scales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = small_set(tmp_path, {"a": [(RED, 0)]}, {"a": [[0, 0, 64, 48]] * 6}, short_sides=(80, 160))
    sampled = RandomBoxes(images, np.array([0]), FineTuningConfig(foreground_fraction=1.0))
    seen: list[set[int]] = []
    regions = RegionEncoder.regions

    def watched(*arguments: Any) -> Any:
        seen.append(set(arguments[-1].tolist()))
        return regions(*arguments)

    monkeypatch.setattr(RegionEncoder, "regions", watched)
    for seed in range(20):
        assert len(sampled.sample(0, 7, np.random.default_rng(seed))[1]) == 7
    assert {0, 1} in seen


def test_indices_name_the_images_and_features_are_of_their_boxes(images: TrainingSet) -> None:
    few = RandomBoxes(images, np.array([10, 3]), FineTuningConfig(foreground_fraction=0.5, background_iou=(0.0, 0.5)))
    nothing = few.sample(0, 8, np.random.default_rng(0))
    assert nothing[1].tolist() == [3, 3]  # no object: two proposals, both background
    features, labels = few.sample(1, 8, np.random.default_rng(0))
    # the red square and the proposal that covers most of it, the green one, and what is apart from both
    assert sorted(labels.tolist()) == [0, 0, 1, 3]
    for row, label in zip(features.tolist(), labels.tolist(), strict=True):
        assert row == {0: [200, 0, 0], 1: [0, 200, 0], 3: [0, 0, 0]}[label]
    assert (few.n_features, few.n_classes, len(few)) == (3, 3, 2)


def test_samples_and_negatives_of_an_image(tmp_path: Path) -> None:
    # IoU with the object: 1, 3/4, 1/4, 0
    boxes = [[0, 0, 64, 48], [0, 0, 64, 16], GREEN]
    images = small_set(tmp_path, {"a": [(RED, 0)]}, {"a": boxes})
    assert images[0].targets.tolist() == [[1, -1, -1], [0, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    strict = replace(images, max_negative_iou=0.25)
    assert strict[0].targets[:, 0].tolist() == [1, 0, 0, -1]
    # a difficult object that is not to be learned from: neither it nor what overlaps it is a negative
    hidden = replace(images.annotations[0], difficult=np.array([True]))
    without = replace(images, annotations=[hidden], difficult=False)
    assert without[0].targets.tolist() == [[0, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    assert without.object_counts().tolist() == [0, 0, 0]
    assert images.object_counts().tolist() == [1, 0, 0]


def test_boxes_that_read_the_same_cells_are_one_sample_but_objects_stay(tmp_path: Path) -> None:
    twice = [[1, 1, 63, 63], [96, 96, 159, 160], [97, 96, 160, 160]]
    images = small_set(tmp_path, {"a": [(RED, 0), ([0, 0, 63, 64], 1)]}, {"a": twice})
    # both objects read the cells 0 to 3, as the first proposal does; the others read the same ones
    assert images[0].regions.tolist() == [[0, 0, 0, 4, 4], [0, 0, 0, 4, 4], [0, 6, 6, 10, 10]]
    assert images[0].targets.tolist() == [[1, 0, -1], [0, 1, -1], [-1, -1, -1]]


def test_parts_are_held_out_in_turn_and_nothing_twice(images: TrainingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "scenes", lambda annotations: np.arange(len(annotations)))
    parts = held_out_parts(images, CalibrationConfig(held_out=0.25))
    assert [len(part) for part in parts] == [3, 3, 3, 3]
    assert sorted(np.concatenate(parts).tolist()) == list(range(12))
    assert all(part.tolist() == sorted(part.tolist()) for part in parts)


def test_a_scale_is_measured_on_few_boxes_of_few_images(tmp_path: Path) -> None:
    """Of images of 200, 100 and no brightness the mean norm is 100; of one of them it is its own."""
    objects = {"a": [(RED, 0)], "b": [(GREEN, 1)]}
    images = small_set(tmp_path, objects, {"a": [GREEN], "b": [RED]})
    # norms: 200 of each object, 0 of each proposal
    assert float(scaled(images, 20, False, 0).scale) == pytest.approx(0.2)
    with np.errstate(divide="ignore"):  # of proposals alone, whose features are all 0
        one = {float(scaled(images, 20, False, seed, max_boxes=1).scale) for seed in range(12)}
    assert 0.1 in {round(each, 3) for each in one if np.isfinite(each)}
    centered = scaled(images, 20, True, 0)
    np.testing.assert_allclose(centered.mean, [50, 50, 0])
    rows = np.concatenate([centered.features(0, as_boxes([RED, GREEN])), centered.features(1, as_boxes([RED, GREEN]))])
    assert np.linalg.norm(rows, axis=1).mean() == pytest.approx(20, rel=1e-5)


def test_images_count_alike_in_the_mean_whatever_their_boxes(tmp_path: Path) -> None:
    """As in the release: a mean of the means of images."""
    images = small_set(tmp_path, {"a": [(RED, 0)], "b": []}, {"a": [GREEN], "b": [RED, GREEN, [64, 0, 96, 32]]})
    np.testing.assert_allclose(scaled(images, 20, True, 0).mean, [(100 + 0) / 2, 0, 0])


def test_background_does_not_take_the_place_of_missing_objects() -> None:
    # one object box, 20 of background, and 3 that are neither
    overlaps = np.array([[0.9]] + [[0.2]] * 20 + [[0.05]] * 3, np.float32)
    for n_boxes, fraction, expected in ((8, 0.5, (1, 4)), (8, 0.25, (1, 6)), (80, 0.25, (1, 20)), (4, 0.0, (0, 4))):
        rows, labels = sample_boxes(overlaps, np.array([1]), 3, n_boxes, np.random.default_rng(0), fraction)
        assert ((labels == 1).sum(), (labels == 3).sum()) == expected
        assert len({*rows.tolist()}) == len(rows) and rows.max(initial=0) <= 20
    # nor do objects that of background
    rows, labels = sample_boxes(1 - overlaps[:5], np.array([1]), 3, 8, np.random.default_rng(0), 0.25)
    assert labels.tolist().count(1) == 2
